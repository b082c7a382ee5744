"""Fetching from publishers: APTOS, DDR, DEEPDR and EYEPACS, with Kaggle's tokens and refusals."""

import dataclasses
import json
import secrets
import zipfile

import pytest
from helpers import http_server
from helpers.downloads import files, one_line, pack

from clipdr import DataError
from clipdr.data.domains import REAL
from clipdr.data.sources import fetch


@pytest.fixture
def published(server, originals, monkeypatch, tmp_path):
    """Datasets as their publishers pack them; Kaggle redirects with the right token only."""
    token = secrets.token_hex(20)
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    monkeypatch.setenv("HOME", str(tmp_path))
    packed = tmp_path / "packed"
    contents = {
        "APTOS": {
            "aptos2019-blindness-detection.zip": pack(originals / "APTOS", packed / "aptos.zip")
        },
        "DDR": {"ddrdataset.zip": pack(originals / "DDR", packed / "ddr.zip")},
        "EYEPACS": {},
    }
    deepdrid = packed / "deepdrid.zip"
    with zipfile.ZipFile(deepdrid, "w") as file:
        for path in sorted((originals / "DEEPDR").rglob("*")):
            if path.is_file():
                file.write(
                    path, f"DeepDRiD-0657068/{path.relative_to(originals / 'DEEPDR').as_posix()}"
                )
    with zipfile.ZipFile(packed / "trainLabels.csv.zip", "w") as file:
        file.write(originals / "EYEPACS/trainLabels.csv", "trainLabels.csv")
    contents["EYEPACS"]["trainLabels.csv.zip"] = packed / "trainLabels.csv.zip"
    for half, parts in (("train", 5), ("test", 7)):
        with zipfile.ZipFile(packed / f"{half}.zip", "w") as file:
            for path in sorted((originals / "EYEPACS" / half).iterdir()):
                file.write(path, f"{half}/{path.name}")
        data = (packed / f"{half}.zip").read_bytes()
        step = len(data) // parts + 1
        for number in range(parts):
            contents["EYEPACS"][f"{half}.zip.{number + 1:03d}"] = data[
                number * step : (number + 1) * step
            ]

    def kaggle(file):
        def answer(handler):
            right = handler.headers.get("Authorization") == f"Bearer {token}"
            handler.answer(
                302, {"Location": f"/storage/{file}?X-Goog-Signature=s1gned"}
            ) if right else handler.answer(401)

        return answer

    for name in ("APTOS", "DDR", "DEEPDR", "EYEPACS"):
        sources = tuple(
            dataclasses.replace(s, url=f"{server.url}/{name}/{s.file}") for s in REAL[name].sources
        )
        monkeypatch.setitem(REAL, name, dataclasses.replace(REAL[name], sources=sources))
    server.files["/DEEPDR/DeepDRiD.zip"] = deepdrid
    for name, held in contents.items():
        assert set(held) == {source.file for source in REAL[name].sources}
        for file, content in held.items():
            server.files[f"/storage/{file}"] = content
            server.faults[f"/{name}/{file}"] = http_server.always(kaggle(file))
    return token


@pytest.mark.parametrize("name", ["APTOS", "DDR", "DEEPDR", "EYEPACS"])
def test_fetch_publisher_gives_its_layout(published, originals, tmp_path, name, capfd):
    raw = tmp_path / "raw"
    fetch.fetch(name, raw)
    left_out = {"test.csv", "retinopathy_solution.csv"} | {
        f"test_images/{p.name}" for p in (originals / name).glob("test_images/*")
    }
    expected = {
        k: v
        for k, v in files(originals / name).items()
        if k not in left_out and not k.startswith("ultra-widefield")
    }
    assert files(raw / name) == expected
    printed = "".join(capfd.readouterr()) + "".join(p.read_text() for p in raw.glob("*.json"))
    assert published not in printed
    assert "s1gned" not in printed


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (403, "competitions/aptos2019-blindness-detection/rules and accept the rules"),
        (401, "token"),
        (404, "no longer there"),
        (500, "busy"),
    ],
)
def test_fetch_kaggle_refusal_names_the_remedy(published, server, tmp_path, code, words, capfd):
    file = REAL["APTOS"].sources[0].file
    server.faults[f"/APTOS/{file}"] = http_server.always(http_server.status(code))
    with pytest.raises(DataError, match=words) as error:
        fetch.fetch("APTOS", tmp_path / "raw")
    assert published not in one_line(error) + "".join(capfd.readouterr())
    assert not (tmp_path / "raw/APTOS").exists()


def test_fetch_without_token_sends_no_request(published, server, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setattr(
        "kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(tmp_path / "none")
    )
    with pytest.raises(DataError, match=r"you have no Kaggle token. Follow the steps above"):
        fetch.fetch("APTOS", tmp_path / "raw")
    assert "Make an API token" in capsys.readouterr().out
    assert server.asked == []


def test_fetch_older_kaggle_credentials_are_used(published, server, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    key = secrets.token_hex(16)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text(json.dumps({"username": "me", "key": key}))
    with pytest.raises(
        DataError, match="does not accept your token"
    ) as error:  # this Kaggle wants the other kind
        fetch.fetch("APTOS", tmp_path / "raw")
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert key not in one_line(error) + "".join(capfd.readouterr())
    (tmp_path / "kaggle.json").write_text("{broken " + key)
    with pytest.raises(DataError, match="not as Kaggle writes it") as error:
        fetch.fetch("APTOS", tmp_path / "raw")
    assert key not in one_line(error) + "".join(capfd.readouterr())


def test_fetch_login_page_is_not_kept(published, server, tmp_path):
    server.files["/storage/ddrdataset.zip"] = b"<html>please log in</html>"
    with pytest.raises(DataError, match="not a zip or tar archive"):
        fetch.fetch("DDR", tmp_path / "raw")
    assert files(tmp_path / "raw") == {}


def test_fetch_complete_volume_is_not_requested_again(published, server, tmp_path):
    server.faults["/EYEPACS/test.zip.003"], good = (
        http_server.always(http_server.status(404)),
        server.faults["/EYEPACS/test.zip.003"],
    )
    with pytest.raises(DataError):
        fetch.fetch("EYEPACS", tmp_path / "raw")
    server.faults["/EYEPACS/test.zip.003"] = good
    server.asked.clear()
    fetch.fetch("EYEPACS", tmp_path / "raw")
    assert [path for path, _ in server.asked if "/storage/" not in path] == [
        f"/EYEPACS/test.zip.{n:03d}" for n in (3, 4, 5, 6, 7)
    ]
