"""Finds large files in the cache and reads them again only if they may have changed."""

from lab.cache import Cache, Receipt
from lab.progress import Progress


def intact(cache: Cache, key: str, title: str, progress: Progress) -> Receipt | None:
    """The receipt of a key if its files are undamaged, else None.

    The images have gigabytes, so the files are read only where a size, time or inode differs from
    the recorded one.
    """
    receipt = cache.receipt(key)
    if receipt is None or receipt.facts.get("stamp") == _stamp(cache, receipt):
        return receipt
    receipt = cache.usable(key, title, progress.say)
    return receipt and record(cache, receipt)


def _stamp(cache: Cache, receipt: Receipt) -> str:
    marks = []
    for name, digest in sorted(receipt.files.items()):
        try:
            status = cache.blob(digest).stat()
        except OSError:
            return "missing"
        marks.append(f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ino}")
    return "; ".join(marks)


def record(cache: Cache, receipt: Receipt) -> Receipt:
    """Record a receipt together with the sizes, times and inodes of its files; return it."""
    stamped = Receipt(**{**vars(receipt), "facts": {"stamp": _stamp(cache, receipt)}})
    cache.record(stamped)
    return stamped
