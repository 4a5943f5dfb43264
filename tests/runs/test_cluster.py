"""The same bytes on a dask scheduler's workers and through a Slurm of one node, one of them killed midway."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib import delayed

from rps_utils.files import read_json
from rps_utils.machine.engines import DASK, Engine, work_on
from rps_utils.runs import chain
from rps_utils.runs.parameters import choose_parameters
from rps_utils.steps import read_steps

from .conftest import write_notebook
from .work import killed_once, squares

pytestmark = pytest.mark.cluster
COMPUTE = """
from pathlib import Path
from joblib import delayed
from rps_utils.machine.engines import work_on
from tests.runs.work import write_square
work_on((delayed(write_square)(n, Path(run_dir) / "squares") for n in range(6)), 2)
"""
LOST = """
from tests.runs.work import lose_the_machine_once
lose_the_machine_once(Path(run_dir).parent / "lost")
"""
SUM = """
from pathlib import Path
from rps_utils.files import write_text
read = sorted(Path(run_dir, "squares").glob("*.txt"))
write_text(str(sum(float(path.read_text()) for path in read)), Path(run_dir) / "sum.txt")
"""
SLURM = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
"""
PROFILE = """\
default-resources:
  slurm_partition: main
  mem_mb: 500
  runtime: 10
slurm-no-account: true
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 2
retries: 1
"""


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two notebooks; the first works side by side, the second adds up what it wrote."""
    monkeypatch.setattr(chain, "closing_steps", lambda steps: [])
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    folder = tmp_path / "notebooks"
    (tmp_path / "lost").touch()  # where a test removes it, the first notebook loses its machine once
    run_dir = "run_dir = '.'\n"
    write_notebook(
        folder, "01_squares", {"reads": [], "writes": ["squares/*.txt"], "heavy": True}, run_dir, COMPUTE, LOST
    )
    write_notebook(folder, "02_sum", {"reads": ["squares/*.txt"], "writes": ["sum.txt"]}, run_dir, SUM)
    return folder


def run_notebooks(notebooks, run, engine):
    steps = read_steps(notebooks)
    assert chain.run_chain(run, steps, choose_parameters(steps, "paper", {}), engine)
    assert not chain.run_chain(run, steps, choose_parameters(steps, "paper", {}), engine)
    made = {name for step in steps for name in read_json(run / "logs" / f"{step.name}.json")["made"]}
    assert made == {*(f"squares/{n}.txt" for n in range(6)), "sum.txt", *(f"notebooks/{s.name}.ipynb" for s in steps)}
    written = sorted(path for path in run.rglob("*.txt") if ".chain" not in path.parts)
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in written}


@pytest.fixture
def scheduler(monkeypatch):
    """A dask scheduler with two workers of this machine."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_whose_worker_is_killed_gives_the_same_values(scheduler, tmp_path, monkeypatch):
    jobs = [delayed(killed_once)(n, tmp_path / "killed") for n in range(8)]
    monkeypatch.setenv(DASK, scheduler)
    found = work_on(jobs, 2)
    assert (tmp_path / "killed").is_file()
    monkeypatch.delenv(DASK)
    assert found == squares(8) == list(work_on(jobs, 2, "generator"))


@pytest.mark.filterwarnings("ignore")
def test_a_chain_on_a_scheduler_writes_the_same_bytes(notebooks, scheduler, tmp_path):
    here = run_notebooks(notebooks, tmp_path / "here", Engine(2))
    assert run_notebooks(notebooks, tmp_path / "there", Engine(2, dask=scheduler)) == here


@pytest.fixture
def slurm(tmp_path):
    """Slurm of one node on this machine, for as long as the test; skipped where it cannot start."""
    programs = [
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("munged", "slurmctld", "slurmd")
    ]
    if not all(programs) or os.geteuid() != 0:
        pytest.skip("Slurm and munge are not installed, or this is not root of a machine of its own")
    config = Path("/etc/slurm/slurm.conf")
    if config.exists():
        pytest.skip(f"{config} is there: this machine belongs to a cluster")
    yield from _serve(tmp_path / "slurm", config, programs)


def _serve(place, config, programs):
    place.mkdir()
    (place / "state").mkdir()
    ports = _free_ports()
    text = SLURM.format(host=socket.gethostname().split(".")[0], cpus=os.cpu_count(), place=place, ports=ports)
    config.write_text(text)
    try:
        os.makedirs("/run/munge", exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", programs[0]], check=False)
        for program in programs[1:]:
            subprocess.run([program], check=False)
        if not _wait_until(lambda: _said_by("sinfo", "-h", "-o", "%t") in ("idle", "mix")):
            pytest.skip(f"Slurm does not start: {(place / 'slurmctld.log').read_text()[-300:]}")
        yield place
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        _wait_until(lambda: not _said_by("squeue", "-h"))
        for pid in (place / "slurmd.pid", place / "slurmctld.pid", Path("/run/munge/munged.pid")):
            if pid.is_file():
                os.kill(int(pid.read_text()), signal.SIGTERM)
        config.unlink()


def _free_ports():
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _said_by(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _wait_until(is_so, patience_s=20):
    for _ in range(patience_s):
        if is_so():
            return True
        time.sleep(1)
    return False


def test_a_chain_through_slurm_whose_job_is_killed_writes_the_same_bytes(notebooks, slurm, tmp_path, capfd):
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(PROFILE)
    here = run_notebooks(notebooks, tmp_path / "here", Engine(2))
    capfd.readouterr()
    (tmp_path / "lost").unlink()
    there = run_notebooks(notebooks, tmp_path / "there", Engine(2, "slurm", 2, profile))
    said = capfd.readouterr().out
    assert there == here
    assert "[ 2/2] 02_sum                   done in" in said
    log = (tmp_path / "there" / ".chain" / "engine" / "output.log").read_text()
    assert log.count("has been submitted with SLURM jobid") == 3, log


WORKERS = "{python} -m distributed.cli.dask_worker {address} --nthreads 1 --no-dashboard --local-directory {place}"


@pytest.mark.filterwarnings("ignore")
def test_patients_go_to_workers_that_are_jobs_of_slurm(slurm, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        work = WORKERS.format(python=sys.executable, address=cluster.scheduler_address, place=tmp_path)
        sbatch = ["sbatch", "--array=1-2", "--mem=500", f"--chdir={tmp_path}", f"--wrap={work}"]
        subprocess.run(sbatch, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
        with distributed.Client(cluster) as client:
            client.wait_for_workers(2, timeout=60)
        monkeypatch.setenv(DASK, cluster.scheduler_address)
        assert work_on([delayed(killed_once)(n, tmp_path / "killed") for n in range(8)], 2) == squares(8)
    assert (tmp_path / "killed").is_file()
