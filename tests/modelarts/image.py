"""What a Dockerfile makes, without Docker: a stage's instructions, carried out upon this system's own folders."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What Docker itself gives a container.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A base image's folders. The last ones are empty in it.
SYSTEM = ["usr", "etc", "bin", "sbin", "lib", "lib64"]
EMPTY = ["dev", "home", "opt", "proc", "root", "run", "sys", "tmp", "var"]


def stage(text, name):
    """The instructions of a stage behind those of the stage that it begins from, each with what follows it."""
    stages = {}
    # Comments may stand between the lines of an instruction.
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, label = rest.partition(" AS ")
            current = stages[label] = list(stages.get(base, []))
        elif word and stages:
            current.append((word, rest))
    return stages[name]


def json_words(rest):
    """A command in its form as a list, which needs no shell."""
    words = re.fullmatch(r"\[(.*)\]", rest)
    assert words, f"{rest} would run under a shell, which keeps signals to itself"
    return [word.strip().strip('"') for word in words[1].split(",")]


class Image:
    """The configuration of an image, as `docker inspect` tells it."""

    def __init__(self, instructions):
        self.env, self.workdir, self.user = {"PATH": PATH}, "/", "0:0"
        self.entrypoint, self.command, self.ports, self.stop_signal = [], [], set(), None
        self.instructions = instructions
        for word, rest in instructions:
            match word:
                case "ENV":
                    self.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "WORKDIR":
                    self.workdir = rest
                case "USER":
                    self.user = rest
                case "EXPOSE":
                    self.ports.add(rest)
                case "STOPSIGNAL":
                    self.stop_signal = rest
                case "ENTRYPOINT":
                    self.entrypoint = json_words(rest)
                case "CMD":
                    self.command = json_words(rest)

    def build(self, folder, artefacts):
        """Its root file system: this system's folders, upon which the instructions are carried out. What they take from
        other stages is given as `artefacts`, by stage and path."""
        root = folder / "root"
        root.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "image", root)
        for name in SYSTEM:
            host = Path("/", name)
            if host.is_symlink():
                (root / name).symlink_to(host.readlink())
            elif host.is_dir():
                upper, work = folder / f"upper-{name}", folder / f"work-{name}"
                for each in (upper, work, root / name):
                    each.mkdir()
                mount("-t", "overlay", "-o", f"lowerdir={host},upperdir={upper},workdir={work}", "image", root / name)
        for name in EMPTY:
            (root / name).mkdir()
        (root / "tmp").chmod(0o1777)
        mount("--rbind", "/dev", root / "dev")
        mount("-t", "proc", "proc", root / "proc")

        at = "/"
        for word, rest in self.instructions:
            match word:
                case "WORKDIR":
                    at = rest
                    inside(root, at).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    copy(root, at, rest, artefacts)
                case "RUN":
                    subprocess.run(["chroot", root, "sh", "-c", rest], check=True, capture_output=True, env={"PATH": PATH})
        return root

    def run(self, root, **envs):
        """Starts it as a container: the first process of its namespace, as the image's user, with nothing of this
        environment. `envs` is what a platform adds."""
        user = ["chroot", "--userspec", self.user, "--groups", "", root, "env", "-C", self.workdir]
        return subprocess.Popen(
            ["unshare", "--pid", "--fork", *user, *self.entrypoint, *self.command],
            env={**self.env, **envs}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def inside(root, path):
    return root / str(path).lstrip("/")


def copy(root, at, rest, artefacts):
    *sources, target = rest.split()
    stage = sources.pop(0).removeprefix("--from=") if sources[0].startswith("--from=") else None
    for source in sources:
        source = ROOT / source if stage is None else artefacts[f"{stage}:{source}"]
        # A path that ends with a slash is a folder to put it into.
        place = inside(root, os.path.join(at, target))
        place = place / source.name if target.endswith("/") else place
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)
