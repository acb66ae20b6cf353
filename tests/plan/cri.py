"""Calls of the container runtime's interface (CRI), as the kubelet makes them."""

import shlex

_CALL = r"""
length=$(printf %02x ${#3}) message=$(printf %02x $((${#3} + 2))) all=$(printf %02x $((${#3} + 4)))
[ -n "$3" ] && request="\\0\\0\\0\\0\\x$all\\x0a\\x$message\\x0a\\x$length%s" ||
    request="\\0\\0\\0\\0\\0%s"
printf "$request" "$3" |
    curl --silent --show-error --max-time 60 --http2-prior-knowledge --unix-socket "$1" \
        --header 'Content-Type: application/grpc' --header 'TE: trailers' --data-binary @- \
        --dump-header /dev/stderr "http://cri/runtime.v1.$2" 2>&1 >/run/answer | tr -d '\r'
echo "answer: $(stat --format %s /run/answer)"
"""
"""A gRPC call is a POST of HTTP/2 with the length of a message before it. The message here has no
fields, or a first field that is a message whose own first field is the argument."""


def call(socket: str, method: str, argument: str = "") -> str:
    """The shell command of a call. It prints headers, and how many bytes the answer has."""
    return shlex.join(["bash", "-euc", _CALL, "bash", socket, method, argument])


def outcome(output: str) -> dict[str, str]:
    """What such a command has printed."""
    return dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)


def refusal(output: str) -> str:
    """What the runtime had against a call; nothing where it is done."""
    headers = outcome(output)
    return "" if headers["grpc-status"] == "0" else headers["grpc-message"]


NOTHING = 5
"""Bytes of an answer whose message has no fields, as that of an empty list: its length alone."""
