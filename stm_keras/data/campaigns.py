"""Which campaign a session belongs to: what P3 leaves out."""

import re

import numpy as np

from stm_keras.errors import DatasetError

CAMPAIGNS = {  # first and last month of the Nottingham sessions
    "2014 - Feb 2015": (201401, 201502),
    "Sep 2015": (201509, 201509),
    "Oct - Nov 2015": (201510, 201511),
}
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
SESSION = re.compile(r"(\d{4})([A-Z][a-z]{2})(\d{2})-\d{6}")


def session_campaigns(dataset):
    """Return the campaign of each scan: as saved, or from the Nottingham sessions.

    Args:
        dataset: `Dataset`.

    Returns:
        str array of shape `(scans,)`.

    Raises:
        DatasetError: The dataset has no campaigns and no sessions that tell them.
    """
    if dataset.campaign is not None:
        return dataset.campaign
    if dataset.session is None:
        raise DatasetError(_no_campaign(dataset, "no sessions"))
    sessions, inverse = np.unique(dataset.session, return_inverse=True)
    return np.array([_campaign(dataset, str(name)) for name in sessions])[inverse]


def _campaign(dataset, session):
    match = SESSION.fullmatch(session)
    months = MONTHS.split(" ")
    known = match and match[2] in months
    month = int(match[1]) * 100 + months.index(match[2]) + 1 if known else 0
    for name, (first, last) in CAMPAIGNS.items():
        if first <= month <= last:
            return name
    raise DatasetError(_no_campaign(dataset, f"session {session!r} of no known campaign"))


def _no_campaign(dataset, reason):
    return (
        f"{dataset.source}: campaigns are unknown ({reason}). Add an array `campaign`, one "
        "name per scan, or use protocol p1 or p2."
    )
