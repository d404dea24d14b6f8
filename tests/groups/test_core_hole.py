from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import QueryBuilder, StructureData
from aiida.tools.archive import create_archive, import_archive
from aiida_pseudo.data.pseudo.upf import UpfData

from aiida_xastruct.data.core_hole import CoreHoleUpfData
from aiida_xastruct.engine.errors import PseudoError
from aiida_xastruct.engine.xspectra.files import read_files
from aiida_xastruct.engine.xspectra.upf import core_wavefunction, read_mesh, read_orbitals, read_upf
from aiida_xastruct.groups.core_hole import CoreHolePseudoFamily

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

#: Made by `scripts/core_hole_pseudos.py`: C and Si, PBE, 1s.
ARCHIVE = Path(__file__).parents[2] / "examples" / "data" / "core_hole.tar.gz"


@pytest.fixture
def folder(tmp_path):
    """The committed set, as a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "core_hole"


def crystal(*symbols):
    structure = StructureData(cell=np.diag([4.0, 4.0, 4.0]).tolist())
    for number, symbol in enumerate(symbols):
        structure.append_atom(position=(2.0 * number, 0.0, 0.0), symbols=symbol)
    return structure


def counts():
    return QueryBuilder().append(CoreHolePseudoFamily).count(), QueryBuilder().append((UpfData, CoreHoleUpfData)).count()


def test_pairs(folder):
    family = CoreHolePseudoFamily.install(ARCHIVE, "pbe", "For tests.")
    assert (family.core_level, family.functional, sorted(family.pseudos), sorted(family.core_holes)) == (
        "1s",
        "PBE",
        ["C", "Si"],
        ["C", "Si"],
    )
    pair = family.get_core_hole_pair(crystal("C", "Si"), "Si")
    assert (pair.ground_state.element, pair.core_hole.element) == ("Si", "Si")
    assert (pair.ground_state.z_valence, pair.core_hole.z_valence, pair.core_hole.core_level) == (4, 5, "1s")
    assert isinstance(pair.core_hole, CoreHoleUpfData)
    assert not isinstance(pair.ground_state, CoreHoleUpfData)
    assert family.get_recommended_cutoffs(structure=crystal("C", "Si"), unit="Ry") == (60.0, 240.0)
    assert family.get_pseudo("C") == family.pseudos["C"]
    assert set(family.get_pseudos(structure=crystal("C"))) == {"C"}
    # The folder is the same family; a second label shares the nodes.
    assert CoreHolePseudoFamily.install(folder, "pbe").uuid == family.uuid
    CoreHolePseudoFamily.create_from_folder(folder, "again")
    assert counts() == (2, 4)


def test_what_a_crystal_lacks_is_said(folder):
    (folder / "core_hole" / "Si.star1s.pbe-tm-gipaw.UPF").unlink()
    family = CoreHolePseudoFamily.install(folder, "carbon")
    with pytest.raises(PseudoError, match=r"no core hole in Si \(it has C\)"):
        family.get_core_hole_pair(crystal("Si"), "Si")
    with pytest.raises(PseudoError, match="Fe is not in the structure"):
        family.get_core_hole_pair(crystal("C"), "Fe")
    with pytest.raises(PseudoError, match="no pseudopotential of O"):
        family.get_core_hole_pair(crystal("C", "O"), "C")


def rewrite(path, old, new, count=-1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def spoil(folder, fault):
    ground, hole = folder / "ground_state" / "C.pbe-tm-gipaw.UPF", folder / "core_hole" / "C.star1s.pbe-tm-gipaw.UPF"
    if fault == "functional":
        rewrite(hole, 'functional="PBE"', 'functional="PZ"')
    elif fault == "functional, one name":
        for path in (ground, hole):
            path.rename(path.with_name("C.UPF"))
        rewrite(ground.with_name("C.UPF"), 'functional="PBE"', 'functional="PZ"')
    elif fault == "no reconstruction of the ground state":
        rewrite(ground, 'has_gipaw="true"', 'has_gipaw="false"')
    elif fault == "no reconstruction":
        rewrite(hole, 'has_gipaw="true"', 'has_gipaw="false"')
    elif fault == "no core orbital":
        rewrite(ground, 'label="1S"', 'label="9Z"')
    elif fault == "no ground state":
        ground.unlink()
    elif fault == "no hole":
        shutil.copy(ground, hole)
    elif fault == "duplicate":
        shutil.copy(hole, folder / "core_hole" / "C.again.UPF")
    elif fault == "swapped":
        shutil.copy(hole, ground)
    elif fault == "other level":
        rewrite(folder / "family.json", '"1s"', '"2p"')
    elif fault == "no half":
        shutil.rmtree(folder / "core_hole")
    elif fault == "no projector":
        for label in ("2P", "3P"):
            rewrite(hole, f'label="{label}" l="1" cutoff_radius="1.2', f'label="{label}" l="0" cutoff_radius="1.2')
    elif fault == "cutoffs":
        rewrite(folder / "family.json", '"Si"', '"Ge"')
    elif fault == "no json":
        (folder / "family.json").write_text("{")
    elif fault == "no upf":
        hole.write_text("nothing")
    elif fault == "part of an electron":
        for path in (ground, hole):
            rewrite(path, '.0000000000000000" total_psenergy', '.5000000000000000" total_psenergy')


FAULTS = {
    "functional": "different functionals",
    "functional, one name": "different functionals .core_hole/.* is of PBE, ground_state/C.UPF is of PZ",
    "no reconstruction of the ground state": "the ground state of C has no GIPAW reconstruction",
    "no reconstruction": "no GIPAW reconstruction",
    "no core orbital": "no core orbital 1s",
    "no ground state": "no ground-state pseudopotential of C",
    "no hole": "a core hole has one more",
    "duplicate": "two core-hole pseudopotentials of C",
    "swapped": "a core hole has one more",
    "other level": "core orbital 2p",
    "no half": r"no core_hole/\*.UPF",
    "no projector": "angular momentum 1",
    "cutoffs": "the cutoffs in family.json are unfit",
    "no json": "not JSON",
    "no upf": "no <PP_HEADER>",
    "part of an electron": "no pseudopotential that AiiDA can store",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unfit_set_leaves_nothing_behind(folder, fault):
    spoil(folder, fault)
    with pytest.raises(PseudoError, match=FAULTS[fault]):
        CoreHolePseudoFamily.install(folder, "bad")
    assert counts() == (0, 0)


def test_taken_label_and_second_pseudo_are_refused(folder):
    family = CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    (folder / "core_hole" / "Si.star1s.pbe-tm-gipaw.UPF").unlink()
    with pytest.raises(PseudoError, match="choose another label"):
        CoreHolePseudoFamily.install(folder, "pbe")
    path = folder / "core_hole" / "C.star1s.pbe-tm-gipaw.UPF"
    rewrite(path, "aiida-xastruct", "somebody else")
    with pytest.raises(PseudoError, match="two core-hole pseudopotentials of C"):
        family.add_nodes(CoreHoleUpfData(path).store())
    with pytest.raises(PseudoError, match="its hole in 2p"):
        family.add_nodes(CoreHoleUpfData(path, core_level="2p").store())


def test_failure_on_the_way_leaves_nothing_behind(monkeypatch):
    """The holes cannot be stored: the group and the nodes before them go, too."""

    def refuse(self, **_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(CoreHoleUpfData, "store", refuse)
    with pytest.raises(RuntimeError, match="disk full"):
        CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    assert counts() == (0, 0)
    monkeypatch.undo()
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    assert counts() == (1, 4)


def test_hashes_are_stable_and_the_archive_gives_it_back(tmp_path, aiida_profile_clean, folder):
    family = CoreHolePseudoFamily.install(ARCHIVE, "pbe", "For tests.")
    assert family.content_hash == "e5bb1523bf5ae5d19e2e1afbdedc05631df632b9cbdb996f89b98ef527c8feed"  # of what is committed
    before = {node.uuid: node.base.caching.compute_hash() for node in family.nodes}
    hole = family.core_holes["C"]
    path = folder / "core_hole" / hole.filename
    assert CoreHoleUpfData(path).store().base.caching.get_hash() == before[hole.uuid]
    assert CoreHoleUpfData(path, core_level="2s").store().base.caching.compute_hash() != before[hole.uuid]
    create_archive([family], filename=tmp_path / "family.aiida")
    digest = family.content_hash
    aiida_profile_clean.reset_storage()
    import_archive(tmp_path / "family.aiida", create_group=False)
    found = QueryBuilder().append(CoreHolePseudoFamily).one()[0]
    assert {node.uuid: node.base.caching.compute_hash() for node in found.nodes} == before
    assert (found.label, found.core_level, found.functional, found.content_hash) == ("pbe", "1s", "PBE", digest)
    assert found.get_core_hole_pair(crystal("C"), "C").core_hole.core_level == "1s"
    assert found.get_recommended_cutoffs(elements=("Si",), unit="Ry") == (30.0, 120.0)
    assert CoreHolePseudoFamily.install(folder, "pbe").uuid == found.uuid
    CoreHolePseudoFamily.install(found.export(tmp_path / "out"), "out")
    out = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.UPF")}
    assert out == {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.UPF")}


def test_two_nodes_of_one_name_are_exported_to_two_files(folder, tmp_path):
    """The database had both by another name, and files are known by their checksums."""
    for path in (folder / "ground_state").iterdir():
        UpfData(io.BytesIO(path.read_bytes()), "pseudo.UPF").store()
    out = CoreHolePseudoFamily.install(folder, "pbe").export(tmp_path / "out")
    assert sorted(path.name for path in (out / "ground_state").iterdir()) == ["C.pseudo.UPF", "Si.pseudo.UPF"]
    assert sorted(CoreHolePseudoFamily.install(out, "out").pseudos) == ["C", "Si"]


def test_amplitudes_of_the_committed_set_are_right():
    """Intensities go with their square. Where ld1.x met a node at the cutoff they are far from 1: 0.72 in this set as it first was."""
    family = CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    assert family.amplitudes("C") == pytest.approx([1.0, 1.0], abs=0.03)
    assert family.amplitudes("Si") == pytest.approx([1.0, 1.0], abs=0.03)
    with pytest.raises(PseudoError, match="no core hole in O"):
        family.amplitudes("O")


@pytest.mark.skipif(shutil.which("ld1.x") is None, reason="Quantum ESPRESSO (ld1.x) is not installed")
def test_the_generator_refuses_a_node_at_the_cutoff(tmp_path):
    """The decks as they are committed, but for the radius of C."""
    scripts = Path(__file__).parents[2] / "scripts"
    for file in (scripts / "core_hole").iterdir():
        text = file.read_text()
        (tmp_path / "core_hole").mkdir(exist_ok=True)
        (tmp_path / "core_hole" / file.name).write_text(text.replace("1.20 1.20", "1.50 1.50") if file.name.startswith("C.") else text)
    shutil.copy(scripts / "core_hole_pseudos.py", tmp_path)
    done = subprocess.run([sys.executable, tmp_path / "core_hole_pseudos.py", tmp_path / "made"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "C.core_hole.in: heights are off by" in done.stderr
    assert not (tmp_path / "made" / "family.json").exists()


def test_archives_of_strangers(tmp_path, folder):
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w", strict_timestamps=False) as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, Path("..", "..", "anything") / path.relative_to(folder))
    # Nothing is written to disk, so a path that leads elsewhere leads nowhere.
    assert len(read_files(packed).ground_state) == 2
    packed.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(PseudoError, match="no readable tar or zip archive"):
        read_files(packed)
    with tarfile.open(tmp_path / "large.tar", "w") as archive:
        member = tarfile.TarInfo("ground_state/C.UPF")
        member.size = 2**40
        archive.fileobj.write(member.tobuf())
    with pytest.raises(PseudoError, match="too much for a pseudopotential"):
        read_files(tmp_path / "large.tar")


def test_both_versions_of_the_format(folder):
    """The header and orbitals of version 1 as ld1.x wrote them until Quantum ESPRESSO 5, numbers shortened."""
    numbers = "\n".join(f"  {value:.11E}" for value in np.linspace(0.001, 2.0, 12))
    half = "\n".join(f"  {value / 2.0:.11E}" for value in np.linspace(0.001, 2.0, 12))
    orbital = (
        f"  <PP_GIPAW_AE_ORBITAL>\n  2P       1\n{numbers}\n  </PP_GIPAW_AE_ORBITAL>\n"
        f"  <PP_GIPAW_PS_ORBITAL>\n    0.50  0.50\n{half}\n  </PP_GIPAW_PS_ORBITAL>\n"
    )
    old = (
        "<PP_HEADER>\n   0                   Version Number\n   C                   Element\n"
        " SLA  PW   PBX  PBC    PBE  Exchange-Correlation functional\n    5.00000000000      Z valence\n</PP_HEADER>\n"
        f"<PP_MESH>\n  <PP_R>\n{numbers}\n  </PP_R>\n</PP_MESH>\n<PP_GIPAW_RECONSTRUCTION_DATA>\n"
        f"  <PP_GIPAW_CORE_ORBITAL>\n    1    0     N  L                       1S     eig:  -20.59439976\n{numbers}\n"
        f"  </PP_GIPAW_CORE_ORBITAL>\n{orbital}"
    )
    facts = read_upf(old, "old.UPF")
    assert (facts.element, facts.z_valence, facts.functional, facts.has_gipaw) == ("C", 5.0, "PBE", True)
    assert (facts.core_levels, facts.projectors, facts.holes) == (("1s",), (1,), ())
    assert len(core_wavefunction(old, "1s", "old.UPF").splitlines()) == 13
    (found,) = read_orbitals(old, 1, "old.UPF")
    assert (found.cutoff, found.amplitude(read_mesh(old, "old.UPF"))) == (0.5, pytest.approx(2.0))
    assert read_orbitals(old, 0, "old.UPF") == []
    with pytest.raises(PseudoError, match="other than the 12 points"):
        read_orbitals(old.replace(half, half[: half.rindex("\n")]), 1, "old.UPF")
    new = (folder / "core_hole" / "C.star1s.pbe-tm-gipaw.UPF").read_text()
    assert read_upf(new, "new.UPF").holes == ("1s",)
    assert core_wavefunction(new, "1s", "new.UPF").startswith("# number of core states 1 =  1 0;")
    with pytest.raises(PseudoError, match="no core orbital 2p"):
        core_wavefunction(new, "2p", "new.UPF")
    with pytest.raises(PseudoError, match="what is no number"):
        core_wavefunction(old.replace("2.00000000000E+00", "two"), "1s", "old.UPF")
