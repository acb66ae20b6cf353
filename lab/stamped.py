"""What the cache has of large files: they are read again only where somebody touched them."""

from lab.cache import Cache, Receipt
from lab.progress import Progress


def intact(cache: Cache, key: str, title: str, progress: Progress) -> Receipt | None:
    """What the cache has for a key, if it is what was recorded.

    Every byte is read only where a file was touched since the record: the images are gigabytes.
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
            found = cache.blob(digest).stat()
        except OSError:
            return "missing"
        marks.append(f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ino}")
    return "; ".join(marks)


def record(cache: Cache, receipt: Receipt) -> Receipt:
    """Record files, with what tells later that nobody touched them since."""
    stamped = Receipt(**{**vars(receipt), "facts": {"stamp": _stamp(cache, receipt)}})
    cache.record(stamped)
    return stamped
