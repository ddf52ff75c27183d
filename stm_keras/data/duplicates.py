"""Find scans that are copies of each other."""

import hashlib
from dataclasses import dataclass

import numpy as np

from stm_keras.data import match

THRESHOLD = 0.74
MIN_LINES = 12  # of match.SIZE
ZOOMS = (1.05, 1.1, 1.15)
_NEIGHBOURS = {"none": 16, "rotated": 8, "zoomed": 8}
_TRIALS = 48
_BLOCK = 128
CORN=1


@dataclass(frozen=True)
class Duplicates:
    first: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    score: np.ndarray
    groups: np.ndarray


def duplicate_groups(images, lines=None, progress=None):
    return find_duplicates(images, lines, progress).groups


def find_duplicates(images, lines=None, progress=None):
    count = len(images)
    if lines is None:
        lines = np.full(count, images.shape[1])
    geometries = [("none", None), ("rotated", None)] + [("zoomed", z) for z in ZOOMS]
    blocks = -(-count // _BLOCK)
    steps = blocks * (1 + len(geometries))
    upright, turned, digests = _read(images, lines, lambda i: progress and progress(i, steps))
    structure = (upright.any(-1).sum(-1) >= MIN_LINES)
    seen = {}
    pairs = []
    use = np.zeros(count, bool)
    for scan, digest in enumerate(digests):
        if not upright[scan].any():
            continue
        if digest in seen:
            pairs.append((seen[digest], scan, "exact", 1.0))
        else:
            seen[digest] = scan
            use[scan] = structure[scan]
    scans = np.flatnonzero(use)
    if len(scans) > 1:
        index = _Index(upright[scans])
        done = blocks
        for name, factor in geometries:
            source = turned if name == "rotated" else upright
            for start in range(0, len(scans), _BLOCK):
                block = source[scans[start : start + _BLOCK]].astype(np.float32)
                if factor:
                    block = match.zoom(block, factor)
                own = np.arange(start, start + len(block))
                for a, b, flip, shift, score in index.search(block, own, name):
                    kind = name
                    if name == "none":
                        kind = "flipped" if flip else "shifted" if max(abs(shift)) > 1 else "copy"
                    pairs.append((scans[a], scans[b], kind, score))
                done += 1
                if progress:
                    progress(min(done, steps), steps)
    return _collect(pairs, count)


class _Index:
    def __init__(self, scans):
        self.scans = scans
        parts = [match.describe(scans[i:i+_BLOCK].astype(np.float32)) for i in range(0,len(scans),_BLOCK)]
        d = np.concatenate(parts)
        both = np.concatenate([d, d[:, :, ::-1]])
        self.mean = d.mean(0); self.mean = (self.mean + self.mean[:, ::-1]) / 2
        self.spread = d.std(0); self.spread = np.sqrt((self.spread**2 + self.spread[:, ::-1]**2) / 2) + 1e-3
        self.descriptors = self.normalise(d)
        self.spectra = np.concatenate([match.coarse_spectra(scans[i:i+_BLOCK].astype(np.float32)) for i in range(0,len(scans),_BLOCK)])

    def normalise(self, d):
        z = (d - self.mean) / self.spread
        z = z.reshape(len(z), z.shape[1], -1)
        return z / (np.linalg.norm(z, axis=-1, keepdims=True) + 1e-9)

    def candidates(self, block, own, k, upper):
        raw = match.describe(block)
        out = []
        for mirrored in (0, 1):
            z = self.normalise(raw[:, :, ::-1] if mirrored else raw)
            close = np.maximum(z[:, 0] @ self.descriptors[:, 0].T, z[:, 1] @ self.descriptors[:, 1].T)
            closes = [close]
            if not mirrored and CORN:
                closes.append(np.max([z[:, 2+c] @ self.descriptors[:, 5-c].T for c in range(4)], 0))
            if upper:
                for close in closes: close[np.arange(close.shape[1])[None] <= own[:, None]] = -9
            else:
                for close in closes: close[np.arange(len(own)), own] = -9
            kk = min(k, close.shape[1])
            found=[]
            for close in closes:
                top = np.argpartition(close, -kk, axis=1)[:, -kk:]
                rows = np.repeat(np.arange(len(own)), kk)
                ok = close[rows, top.ravel()] > -2
                found.append(rows[ok]*close.shape[1]+ top.ravel()[ok])
            out.append(np.divmod(np.unique(np.concatenate(found)),close.shape[1]))
        return out

    def search(self, block, own, name):
        spectra = match.coarse_spectra(block)
        hyp = []
        for mirrored, (a, b) in enumerate(self.candidates(block, own, _NEIGHBOURS[name], name == "none")):
            for flip in ((0, 3), (1, 2))[mirrored]:
                shifts, heights = match.find_shifts(spectra[a], match.flip_spectra(self.spectra[b], flip))
                for p in range(shifts.shape[1]):
                    hyp.append(np.column_stack([a, b, np.full(len(a), flip), shifts[:, p], heights[:, p] * 1e6]))
        hyp = np.concatenate(hyp).astype(int)
        # best trials of each scan
        order = np.lexsort((-hyp[:, 5], hyp[:, 0]))
        hyp = hyp[order]
        start = np.searchsorted(hyp[:, 0], hyp[:, 0])
        hyp = hyp[np.arange(len(hyp)) - start < _TRIALS]
        best = {}
        for s in range(0, len(hyp), 256):
            h = hyp[s:s+256]
            second = self.scans[h[:, 1]].astype(np.float32)
            for f in (1, 2, 3):
                w = h[:, 2] == f
                second[w] = match.flip(second[w], f)
            score, common = match.similarity(block[h[:, 0]], second, h[:, 3:5])
            for i in np.flatnonzero((score >= THRESHOLD) & (common >= MIN_LINES)):
                key = (own[h[i, 0]], h[i, 1])
                if key not in best or score[i] > best[key][1]:
                    best[key] = (h[i, 2:5], float(score[i]))
        return [(a, b, h[0], h[1:], s) for (a, b), (h, s) in best.items()]


def _read(images, lines, progress):
    n = len(images)
    upright = np.zeros((n, match.SIZE, match.SIZE), np.float32)
    turned = np.zeros_like(upright)
    digests = []
    for start in range(0, n, _BLOCK):
        block = np.asarray(images[start : start + _BLOCK])
        rec = lines[start : start + _BLOCK]
        upright[start:start+_BLOCK] = match.reduce_scans(block, rec)
        full = np.where((np.arange(block.shape[1]) < rec[:, None])[:, :, None], block, 0)
        turned[start:start+_BLOCK] = match.reduce_scans(np.rot90(full, 1, (1, 2)), np.full(len(block), block.shape[2]))
        digests += [hashlib.sha1(np.ascontiguousarray(s[:l])).digest() for s, l in zip(block, rec)]
        progress(start // _BLOCK + 1)
    return upright, turned, digests


def _collect(pairs, count):
    best = {}
    for a, b, kind, score in pairs:
        key = (min(a, b), max(a, b))
        if key not in best or score > best[key][1]:
            best[key] = (kind, score)
    parent = np.arange(count)
    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]; i = parent[i]
        return i
    for a, b in best:
        parent[max(root(a), root(b))] = min(root(a), root(b))
    groups = np.unique([root(i) for i in range(count)], return_inverse=True)[1]
    keys = sorted(best)
    return Duplicates(np.array([k[0] for k in keys], int), np.array([k[1] for k in keys], int), np.array([best[k][0] for k in keys]), np.array([best[k][1] for k in keys]), groups)
