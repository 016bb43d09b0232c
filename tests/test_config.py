"""Options come from where they should, and are read as Metaflow reads them."""

from __future__ import annotations

import json
import pickle
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from asyncstore.config import Config, load_config
from asyncstore.errors import ConfigError
from asyncstore.types import MIB, Limits


@dataclass(frozen=True)
class Place:
    """A home and a working directory two levels below a project."""

    base: Path

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def cwd(self) -> Path:
        return self.base / "project" / "src" / "deep"

    def write(self, name: str, content: Any) -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def load(self, environ: dict[str, str] | None = None, **explicit: Any) -> Config:
        return load_config(environ=environ or {}, cwd=str(self.cwd), home=str(self.home), **explicit)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path.resolve())
    place.home.mkdir()
    place.cwd.mkdir(parents=True)
    return place


PROJECT_FILE = "project/.metaflow/config.json"
HOME_FILE = "home/.metaflowconfig/config.json"


def test_an_argument_goes_before_our_variable_before_metaflows_before_the_projects_file_before_the_users(
    place: Place,
) -> None:
    name = "METAFLOW_S3_ENDPOINT_URL"
    assert place.load().s3_endpoint_url is None
    place.write(HOME_FILE, {name: "http://home"})
    assert place.load().s3_endpoint_url == "http://home"
    place.write(PROJECT_FILE, {name: "http://project"})
    assert place.load().s3_endpoint_url == "http://project"
    environ = {name: "http://metaflow"}
    assert place.load(environ).s3_endpoint_url == "http://metaflow"
    environ["ASYNCSTORE_S3_ENDPOINT_URL"] = "http://ours"
    assert place.load(environ).s3_endpoint_url == "http://ours"
    assert place.load(environ, s3_endpoint_url="http://argument").s3_endpoint_url == "http://argument"
    assert place.load(environ, s3_endpoint_url=None).s3_endpoint_url == "http://ours"


def test_options_that_metaflow_does_not_know_come_from_our_names_only(place: Place) -> None:
    place.write(PROJECT_FILE, {"ASYNCSTORE_THREADS": 3, "METAFLOW_REQUESTS": 5})
    config = place.load({"METAFLOW_DURABILITY": "fast", "ASYNCSTORE_MEMORY": "512MiB", "ASYNCSTORE_FILE_MODE": "0640"})
    assert config.limits == Limits(memory=512 * MIB, threads=3)
    assert (config.durability, config.file_mode) == ("safe", 0o640)


def test_the_users_file_is_found_by_home_and_profile(place: Place) -> None:
    place.write(HOME_FILE, {"METAFLOW_USER": "plain"})
    place.write("home/.metaflowconfig/config_work.json", {"METAFLOW_USER": "profile"})
    place.write("elsewhere/config_work.json", {"METAFLOW_USER": "moved"})
    assert place.load().user == "plain"
    assert place.load({"METAFLOW_PROFILE": ""}).user == "plain"
    assert place.load({"METAFLOW_PROFILE": "work"}).user == "profile"
    moved = {"METAFLOW_PROFILE": "work", "METAFLOW_HOME": str(place.base / "elsewhere")}
    assert place.load(moved).user == "moved"
    with pytest.raises(ConfigError, match=r"METAFLOW_PROFILE asks for .*config_typo\.json"):
        place.load({"METAFLOW_PROFILE": "typo"})


def test_the_user_is_the_first_name_that_is_not_root(place: Place) -> None:
    assert place.load({"USER": "root"}).user is None
    assert place.load({"METAFLOW_USER": "root", "SUDO_USER": "ann", "USER": "bob"}).user == "ann"
    assert place.load({"METAFLOW_USER": "", "USERNAME": "root", "USER": "bob"}).user == "bob"


def test_the_services_key_is_one_of_its_headers(place: Place) -> None:
    config = place.load({"METAFLOW_SERVICE_HEADERS": '{"x-a": "1"}', "METAFLOW_SERVICE_AUTH_KEY": "k"})
    assert config.service_headers == {"x-a": "1", "x-api-key": "k"}


SECRET = "s3cr3t-9f"


def test_no_credential_is_in_the_repr_or_in_an_error(place: Place) -> None:
    config = place.load(
        {
            "METAFLOW_SERVICE_AUTH_KEY": SECRET,
            "METAFLOW_S3_ENDPOINT_URL": f"https://user:{SECRET}@host:9000/path",
            "METAFLOW_AZURE_STORAGE_BLOB_SERVICE_ENDPOINT": f"https://host/?sig={SECRET}",
        }
    )
    assert SECRET not in repr(config)
    assert "'https://host:9000/path'" in repr(config)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ConfigError) as failure:
        place.load({"METAFLOW_SERVICE_HEADERS": f'{{"x-api-key": "{SECRET}"'})
    assert SECRET not in str(failure.value)
    assert failure.value.__cause__ is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"ASYNCSTORE_DURABILITY": "slow"},
            "ASYNCSTORE_DURABILITY in the environment must be fast, safe or paranoid, not 'slow': "
            "set it to that or remove it",
        ),
        ({"ASYNCSTORE_THREADS": "many"}, "ASYNCSTORE_THREADS in the environment must be a whole number from 1"),
        ({"ASYNCSTORE_THREADS": "0"}, "must be a whole number from 1, not 0"),
        ({"ASYNCSTORE_MEMORY": "1GB"}, "must be bytes, such as 512MiB, not '1GB'"),
        ({"ASYNCSTORE_FILE_MODE": "rw"}, "must be octal text such as 0640"),
        ({"ASYNCSTORE_FILE_MODE": "7777"}, "must be octal text such as 0640"),
        ({"METAFLOW_SERVICE_HEADERS": "[]"}, "METAFLOW_SERVICE_HEADERS in the environment must be a JSON object"),
        ({"METAFLOW_SERVICE_HEADERS": '{"a": 1}'}, "must be a JSON object of texts"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_that_holds_it(
    place: Place, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as failure:
        place.load(environ)
    assert message in str(failure.value)


def test_a_wrong_value_in_a_file_is_refused_by_name_and_file(place: Place) -> None:
    path = place.write(PROJECT_FILE, {"ASYNCSTORE_FILE_MODE": 640})
    with pytest.raises(ConfigError, match=rf"ASYNCSTORE_FILE_MODE in the file {path} must be octal text"):
        place.load()


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_file_that_is_no_json_object_is_refused_by_its_path(place: Place, content: str) -> None:
    path = place.base / PROJECT_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=str(path)):
        place.load()


def test_an_unknown_option_is_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match="there is no option 'thread'; there are durability"):
        place.load(thread=3)
    with pytest.raises(ConfigError, match="option threads must be a whole number from 1, not '3'"):
        place.load(threads="3")


def test_the_process_own_surroundings_are_the_default(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("home/.metaflowconfig/config.json", {"METAFLOW_SERVICE_URL": "http://home"})
    place.write(PROJECT_FILE, {"METAFLOW_S3_ENDPOINT_URL": "http://project"})
    monkeypatch.chdir(place.cwd)
    monkeypatch.setenv("HOME", str(place.home))
    for name in ("METAFLOW_HOME", "METAFLOW_PROFILE", "METAFLOW_SERVICE_URL", "METAFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    config = load_config()
    assert (config.service_url, config.s3_endpoint_url) == ("http://home", "http://project")


TEXTS = ["", "0", "1", "false", "False", "FALSE", "no", "true", " 7 ", "-3", "1.5", "ü", "{}", '{"a": "b"}', "[1]", "{"]
VALUES = [*TEXTS, 0, 7, 1.5, True, False, None, {}, {"a": "b"}, [1]]
KINDS: list[tuple[str, Any]] = [
    ("S3_ENDPOINT_URL", None),
    ("DEFAULT_DATASTORE", "local"),
    ("SERVICE_HEADERS", {}),
    ("FOLLOW_SYMLINKS", False),
    ("THREADS", Limits().threads),
]
# Where Metaflow takes nonsense as it is, or a text where we have a number that cannot be; each with its reason.
STRICTER: dict[tuple[str, str], str] = {
    ("S3_ENDPOINT_URL", "{}"): "a text option is not an object",
    ("S3_ENDPOINT_URL", '{"a": "b"}'): "a text option is not an object",
    ("S3_ENDPOINT_URL", "[1]"): "a text option is not a list",
    ("DEFAULT_DATASTORE", "null"): "Metaflow makes the text 'None' of it",
    ("DEFAULT_DATASTORE", "{}"): "Metaflow makes a text of the object",
    ("DEFAULT_DATASTORE", '{"a": "b"}'): "Metaflow makes a text of the object",
    ("DEFAULT_DATASTORE", "[1]"): "Metaflow makes a text of the list",
    ("SERVICE_HEADERS", "[1]"): "Metaflow checks the type of a text only",
    ("THREADS", '"-3"'): "no number of threads",
    ("THREADS", '"0"'): "no number of threads",
    ("THREADS", "0"): "no number of threads",
    ("THREADS", "false"): "no number of threads",
}


@dataclass(frozen=True)
class Case:
    """One option, set to one value in one place."""

    name: str
    default: Any
    value: Any
    where: str

    @property
    def ours(self) -> str:
        return "METAFLOW" if _row_of(self.name).metadata["option"].metaflow else "ASYNCSTORE"

    def settle(self, base: Path, prefix: str) -> tuple[Place, dict[str, str]]:
        place = Place(base)
        place.home.mkdir(parents=True)
        place.cwd.mkdir(parents=True)
        environ = {"HOME": str(place.home)}
        if self.where == "environment":
            environ[f"{prefix}_{self.name}"] = self.value
        else:
            place.write(self.where, {f"{prefix}_{self.name}": self.value})
        return place, environ


def _row_of(name: str) -> Any:
    return next(each for each in fields(Config) if each.name.upper() == name)


def _cases() -> list[Case]:
    return [
        Case(name, default, value, where)
        for name, default in KINDS
        for where, values in (("environment", TEXTS), (PROJECT_FILE, VALUES), (HOME_FILE, VALUES))
        for value in values
    ]


@pytest.mark.servers
def test_each_kind_of_value_in_each_place_is_read_as_metaflow_reads_it(metaflow_python: Path, tmp_path: Path) -> None:
    cases = _cases()
    asked = []
    for number, case in enumerate(cases):
        place, environ = case.settle(tmp_path / "theirs" / str(number), "METAFLOW")
        asked.append({"environ": environ, "cwd": str(place.cwd), "name": case.name, "default": case.default})
    script = Path(__file__).parent / "compat" / "parse_config.py"
    environ = {"HOME": str(tmp_path)}
    done = subprocess.run(
        [metaflow_python, script], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True, env=environ
    )
    wrong: list[str] = []
    stricter: set[tuple[str, str]] = set()
    for number, (case, theirs) in enumerate(zip(cases, json.loads(done.stdout), strict=True)):
        place, environ = case.settle(tmp_path / "ours" / str(number), case.ours)
        try:
            answer = {"value": getattr(place.load(environ), case.name.lower())}
        except ConfigError:
            answer = {}
        if theirs.get("value") is not None and case.default is None and not isinstance(theirs["value"], dict | list):
            theirs["value"] = str(theirs["value"])  # Metaflow gives a file's number as it is, and uses it as text
        if "value" in theirs and "value" not in answer:
            stricter.add((case.name, json.dumps(case.value)))
        elif theirs.get("value", "refused") != answer.get("value", "refused"):
            wrong.append(f"{case}: Metaflow {theirs}, asyncstore {answer}")
    assert wrong == []
    assert stricter == STRICTER.keys()
