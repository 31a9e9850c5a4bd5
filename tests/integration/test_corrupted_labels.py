"""Bad pairs are found by what the teacher says of them."""

from benchmarks import corrupted


def test_bad_pairs_are_dropped_and_good_ones_kept() -> None:
    line = corrupted.compare("translation", n=200)
    assert line["rows"] == 200
    assert line["bad_dropped"] >= 0.9 and line["good_dropped"] <= 0.05


def test_spoilt_targets_are_other_texts(tmp_path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for side in ("source", "target"):
        (data / f"val.{side}").write_text("".join(f"{side} {n} some words\n" for n in range(40)))
    (tmp_path / "out").mkdir()
    bad = corrupted.spoil(str(data), tmp_path / "out", "val", 40)
    before, after = ((folder / "val.target").read_text().splitlines() for folder in (data, tmp_path / "out"))
    assert len(bad) == 4 and {row for row in range(40) if before[row] != after[row]} == bad
