"""Packages as pip would install them, for tests of parts that other packages add."""

import sys


def installer(tmp_path, monkeypatch):
    """A function that installs a package: its one module and the entry points it declares. Given
    again, the package takes the place of the one before."""

    def install(module, entry_points, package="kitchen_plugin", version="1.0"):
        folder = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
        info = folder / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{package}.py").write_text(module)
        name = package.replace("_", "-")
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return install
