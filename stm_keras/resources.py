"""Files that come with stm-keras: models, configs of training runs, jobs for SLURM.

The originals are folders beside the package in a checkout. A build puts copies into the
package, see setup.cfg, so an installed stm-keras has real files, and nothing is a link.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent
ORIGINALS = {"shipped": "models", "configs": "configs", "jobs": "jobs"}


def resource_folder(name: str, package: Path = PACKAGE) -> Path:
    """Return a folder of files that come with stm-keras: "shipped", "configs" or "jobs".

    It is in the package, or in a checkout beside it; it is missing only in a broken
    installation.
    """
    inside = package / name  # no folder, but a file, where git made one of an old link
    return inside if inside.is_dir() else package.parent / ORIGINALS[name]
