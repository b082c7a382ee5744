"""Manifests and packed arrays that do not belong together are refused."""

import numpy as np
import pandas as pd
import pytest
from helpers.image_files import layout, run

from clipdr import DataError
from clipdr.data.manifest import open_store, read_manifest


def test_store_that_does_not_fit_its_manifest_is_refused(tmp_path):
    layout(tmp_path / "raw")
    manifest, store, _ = run(tmp_path / "raw", tmp_path / "out")
    table = read_manifest(manifest)
    with pytest.raises(DataError, match="10 entries for 9 rows"):
        open_store(store, table.iloc[:9])
    with pytest.raises(DataError, match=r"none\.npy: file is missing"):
        open_store(tmp_path / "none.npy", table)
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(tmp_path / "none.csv")
    store.write_bytes(store.read_bytes()[:-1])
    with pytest.raises(DataError, match="not a complete array"):
        open_store(store, table)
    np.save(store, np.zeros((10, 8, 9, 3), np.uint8))
    with pytest.raises(DataError, match="is not"):
        open_store(store, table)
    pd.DataFrame({"image": ["a"]}).to_csv(manifest, index=False)
    with pytest.raises(DataError, match="prepare"):
        read_manifest(manifest)
    table["grade"] = "x"
    table.to_csv(manifest, index=False)
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(manifest)
