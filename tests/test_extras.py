"""A missing package is one line that names the extra; a broken one is not hidden."""

from pathlib import Path

import pytest

from pcbench.errors import UserError
from pcbench.extras import require


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(UserError) as error:
        require("no_such_package.inner", "attacks")
    assert str(error.value) == "this needs the package no_such_package: pip install 'pcbench[attacks]'"


def test_what_an_installed_package_lacks_is_another_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("half_there", "attacks")
