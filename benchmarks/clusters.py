"""Scaling out on one machine: torchrun, FSDP, Ray and SLURM, each with real daemons, against a run without them

clusters:torchrun  two nodes (two torchrun agents) train one model; bit by bit the run of two processes
clusters:fsdp      two gloo processes that hold half of every weight each; the gradient steps of one process
clusters:ray       a local Ray cluster of two nodes runs a sweep through Hydra's launcher
clusters:slurm     a controller and two daemons on the loopback address run a sweep through submitit: one job gets
                   SIGUSR2 (the time is up) and queues itself again, another one is requeued with SIGTERM

What is not installed is skipped and says how to get it. Numbers are seconds of wall-clock time.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.kills import compare, steps_of
from benchmarks.measure import Row, row
from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint

TRAIN = [sys.executable, "-m", "objectscape", "train"]
TINY = """
    recipe=quickstart data.count=64 batch_size=4 model.width=8 model.hidden=8 every.log=1 every.validate=0
    every.picture=0 every.checkpoint=100000 loggers.tensorboard=false trainer.accelerator=cpu
    trainer.precision=32-true
""".split()
MODES = ("torchrun", "fsdp", "ray", "slurm")
PATIENCE = 1800.0
STEPS = 2000  # of a job of SLURM, which is interrupted on its way


def run(*, quick: bool = False, mode: str = "") -> list[Row]:
    """One row per kind of cluster; an error if what came out is not what one process gives."""
    rows = []
    for each in [mode] if mode else ["torchrun", "fsdp"] if quick else MODES:
        missing = lacking(each)
        if missing:
            rows.append(row(each, None, None, "s", note=f"skipped: {missing}"))
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="clusters-") as place:
            note = {"torchrun": torchrun, "fsdp": fsdp, "ray": ray, "slurm": slurm}[each](Path(place))
        rows.append(row(each, time.perf_counter() - start, None, "s", note=note))
    return rows


def lacking(mode: str) -> str:
    """What is not installed, and how to get it; empty if all is there."""
    if mode == "ray":
        return "" if find_spec("hydra_plugins.hydra_ray_launcher") else "pip install 'objectscape[ray]'"
    if mode == "slurm":
        if not find_spec("hydra_plugins.hydra_submitit_launcher"):
            return "pip install 'objectscape[slurm]'"
        commands = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "scontrol")
        return "" if all(map(shutil.which, commands)) else "apt-get install slurm-wlm munge (and be root)"
    return ""


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def call(words: list[str], **options: Any) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **options)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def torchrun(place: Path) -> str:
    words = [*TINY, "trainer.max_steps=20", "trainer.strategy=ddp"]
    call([*TRAIN, *words, "trainer.devices=2", f"run_dir={place / 'whole'}"])
    address = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port()}"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *address, f"--node-rank={rank}", "-m", "objectscape",
             "train", *words, "trainer.devices=1", "trainer.num_nodes=2", f"run_dir={place / 'nodes'}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=PATIENCE)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    compare(place / "whole", place / "nodes")
    return "two nodes x one process, bit by bit as one node x two processes"


def fsdp(place: Path) -> str:
    states = []
    for world in (1, 2):
        file = place / f"{world}.pt"
        torch.multiprocessing.spawn(_sharded, (world, str(place / f"store{world}"), str(file)), nprocs=world)
        states.append(torch.load(file, weights_only=True))
    worst = max(float((one - states[1][name]).abs().max()) for name, one in states[0].items())
    assert worst < 1e-5, worst
    return f"5 steps of Slot Attention, half of the weights on each of two gloo processes: weights within {worst:.1e}"


def _sharded(rank: int, world: int, store: str, file: str) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from objectscape.data.synthetic.shapes import ColoredShapes
    from objectscape.models.slot_attention import SlotAttentionModel
    from objectscape.nn import distributions
    from objectscape.scene import Scene

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = SlotAttentionModel(image_size=32, slots=4, slot_size=16, encoder_channels=8, decoder_channels=8)
    if world > 1:
        mesh = init_device_mesh("cpu", (world,))
        # as a whole: models call methods of their parts, which no hook of a part would notice
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images = ColoredShapes(split="train", count=8, image_size=32).batch(
        range(rank * 8 // world, (rank + 1) * 8 // world)
    )
    for step in range(5):
        with distributions.posterior_means():
            scene = Scene(image=images.pixels)
            loss = model.loss(scene, model(scene), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        torch.save(state, file)
    torch.distributed.destroy_process_group()


def ray(place: Path) -> str:
    command = str(Path(sys.executable).with_name("ray"))
    address = f"127.0.0.1:{port()}"
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    try:
        head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={place}"]
        call([command, "start", *head, *common], env=environment)
        call([command, "start", f"--address={address}", *common], env=environment)
        words = ["--multirun", *TINY, "trainer.max_steps=20", f"runs={place / 'runs'}", "name=s", "seed=0,1"]
        launcher = [
            "hydra/launcher=ray",
            f"+hydra.launcher.ray.init.address={address}",
            "+hydra.launcher.ray.init.object_store_memory=null",
            "+hydra.launcher.ray.remote.num_cpus=1",
        ]
        call([*TRAIN, *words, *launcher, f"hydra.sweep.dir={place / 'jobs'}"], env=environment, cwd=place)
    finally:
        subprocess.run([command, "stop", "--force"], capture_output=True)
    compare_sweep(place, 2, "trainer.max_steps=20")
    return "a sweep of two on two nodes, bit by bit as without Ray"


def compare_sweep(place: Path, count: int, *words: str) -> None:
    """The runs of a sweep over seeds against runs of their own."""
    for seed in range(count):
        whole = place / f"whole{seed}"
        call([*TRAIN, *TINY, *words, f"seed={seed}", f"run_dir={whole}"])
        compare(whole, Path((place / "jobs" / str(seed) / "run.txt").read_text()))


CONFIGURATION = """
ClusterName=objectscape
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=60
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm_cluster(place: Path) -> Iterator[dict[str, str]]:
    """A controller and two daemons; the environment in which SLURM's commands find them."""
    for folder in ("state", "spool-one", "spool-two"):
        (place / folder).mkdir()
    file = place / "slurm.conf"
    file.write_text(CONFIGURATION.format(host=socket.gethostname(), place=place, ports=[port() for _ in range(3)]))
    if subprocess.run(["munge", "-n"], capture_output=True).returncode:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        call(["runuser", "-u", "munge", "--", "munged"])
    daemons = [["slurmctld", "-D", "-c", "-f", str(file)]]
    daemons += [["slurmd", "-D", "-N", node, "-f", str(file)] for node in ("one", "two")]
    started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for words in daemons]
    environment = {**os.environ, "SLURM_CONF": str(file)}
    try:
        while "idle" not in subprocess.run(["sinfo", "-h"], env=environment, capture_output=True, text=True).stdout:
            time.sleep(0.5)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root", "--full"], env=environment, capture_output=True)
        time.sleep(2)
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            daemon.wait()


def wait(until: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not until():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)


def begun(job: Path, sweep: subprocess.Popen[str]) -> RunFolder:
    """The run of a job, once it trains."""
    wait((job / "run.txt").is_file, sweep)
    run = Path((job / "run.txt").read_text())
    wait(lambda: steps_of(run) > 20, sweep)
    return RunFolder(run)


def slurm(place: Path) -> str:
    words = ["--multirun", *TINY, f"trainer.max_steps={STEPS}", f"runs={place / 'runs'}", "name=s", "seed=0,1"]
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.cpus_per_task=1"]
    with slurm_cluster(place) as environment:
        sweep = subprocess.Popen(
            [*TRAIN, *words, *launcher, f"hydra.sweep.dir={place / 'jobs'}"],
            env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        at = []
        for seed, word in enumerate((["scancel", "--signal=USR2"], ["scontrol", "requeue"])):
            run = begun(place / "jobs" / str(seed), sweep)
            jobs = call(["squeue", "-h", "-r", "-o", "%i"], env=environment).split()
            (job,) = (job for job in jobs if job.endswith(f"_{seed}"))
            call([*word, job], env=environment)
            wait(run.checkpoint.is_file, sweep)
            at.append(read_checkpoint(run.checkpoint)["global_step"])
            assert at[-1] < STEPS
        said = sweep.communicate(timeout=PATIENCE)[0]
        assert sweep.returncode == 0, said
    compare_sweep(place, 2, f"trainer.max_steps={STEPS}")
    return (
        f"a sweep of two through submitit; SIGUSR2 at step {at[0]} and SIGTERM at step {at[1]}, both saved, queued "
        "again, resumed; bit by bit as without SLURM"
    )
