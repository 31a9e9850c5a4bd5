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


def test_the_threshold_tells_apart_best() -> None:
    assert corrupted.threshold([3.0, 4.0, 5.0], [0.0, 1.0, 2.0]) == 3.0
    good, bad = [n / 100 for n in range(100)], [-1.0, -0.5, 0.02, 0.9]
    assert corrupted.threshold(good, bad) == 0.03  # three of four are below it; more good ones than 4% are not given up
