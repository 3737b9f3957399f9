"""`pcbench data`: the list of data sets."""

import pytest

from pcbench.cli.app import main


def test_the_extra_that_a_data_set_needs_is_named_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"name": "some", "at_hand": False, "description": "images", "needs": "pip install 'pcbench[samples]'"}
    monkeypatch.setattr("pcbench.data.registry.list_data", lambda: [row])
    with pytest.raises(SystemExit):
        main(["data"])
    assert "pcbench[samples]" in capsys.readouterr().out
