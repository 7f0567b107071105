"""A cache of the Hugging Face Hub, filled by hand, and no network."""

import shutil

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(cache, repository, folder):
    """Puts a folder into the cache as the repository's newest commit."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, place / "snapshots" / COMMIT)


def use(patch, cache):
    """Makes this process, and those that it starts, look into a cache and nowhere else."""
    from huggingface_hub import constants

    # What it reads from the environment it has read already.
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setenv("HF_HUB_CACHE", str(cache))
    patch.setenv("HF_HUB_OFFLINE", "1")
