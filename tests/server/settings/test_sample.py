"""The file that `groat init` writes: it says the defaults, and means them."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groat.server.settings.config import load_config
from groat.server.settings.sample import sample_config
from groat.server.settings.table import SETTINGS
from tests.server.settings.loading import ISSUER, load

SQLITE = "sqlite:///data/groat.db"


def uncommented(text: str) -> str:
    """The sample with every setting in force."""
    return re.sub(r"^# (?=[a-z0-9_]+ = )", "", text, flags=re.MULTILINE)


def test_the_sample_means_the_defaults(tmp_path: Path) -> None:
    """As written it sets the issuer only; everything else is the default."""
    config = load(tmp_path, sample_config(ISSUER, "ES256", SQLITE))
    assert config.policy.issuer == ISSUER
    assert [name for name, origin in config.origins.items() if origin == "file"] == ["issuer"]


def test_every_line_says_what_is_the_default(tmp_path: Path) -> None:
    """Taking all comment signs away changes no value, and names every setting once."""
    text = uncommented(sample_config(ISSUER, "ES256", SQLITE))
    config = load(tmp_path, text)
    assert set(config.origins.values()) == {"file"}
    assert config.values == load(tmp_path, f'issuer = "{ISSUER}"').values
    assert all(text.count(f"({setting.env})") == 1 for setting in SETTINGS)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS512", "Ed25519", "EdDSA"])
def test_what_is_chosen_is_read_back(tmp_path: Path, algorithm: str) -> None:
    """Algorithm and store, whether they are the defaults or not."""
    config = load(tmp_path, sample_config(ISSUER, algorithm, "sqlite:///other/place.db"))
    assert (config.key_files.algorithm, config.storage.url) == (algorithm, "sqlite:///other/place.db")


@given(path=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_of_a_database_is_read_back(path: str) -> None:
    """Quotes, backslashes and controls included: the sample is TOML whatever stands in it."""
    document = tomllib.loads(sample_config(ISSUER, "ES256", f"sqlite:///{path}"))
    assert document["storage"]["url"] == f"sqlite:///{path}"


def test_the_sample_is_readable(tmp_path: Path) -> None:
    """Each setting says what it is for and how its variable is called, in lines of a bearable length."""
    text = sample_config(ISSUER, "ES256", SQLITE)
    for setting in SETTINGS:
        assert f"# {setting.about} ({setting.env})" in text
    assert max(map(len, text.splitlines())) <= 150
    (tmp_path / "groat.toml").write_text(text)
    assert load_config(tmp_path / "groat.toml", {}).directory == tmp_path
