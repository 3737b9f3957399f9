"""A missing package is one line that says what to install."""

from pathlib import Path

import pytest

from pcbench.errors import UserError
from pcbench.extras import require


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(UserError) as error:
        require("no_such_package.inner", "attacks")
    assert str(error.value) == "this needs no_such_package, which is not installed: pip install 'pcbench[attacks]'"


def test_a_package_without_an_extra_is_installed_by_itself() -> None:
    with pytest.raises(UserError) as error:
        require("no_such_package", None, "attacks of no-such", "no-such")
    assert str(error.value) == "attacks of no-such needs no-such, which is not installed: pip install no-such"


def test_what_an_installed_package_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="half_there together with no_such_dependency"):
        require("half_there", "attacks")
