"""The TLS versions and cipher suites that every server accepts, by CIS 1.2.29 and 4.2.12."""

CIPHER_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
)
"""The suites of TLS 1.2 with ephemeral keys and authenticated encryption. Go does not let programs
choose the suites of TLS 1.3."""

ETCD_MINIMUM, KUBERNETES_MINIMUM = "TLS1.2", "VersionTLS12"

SERVING = {
    "tls-min-version": KUBERNETES_MINIMUM,
    "tls-cipher-suites": ",".join(CIPHER_SUITES),
}
"""The flags of Kubernetes' components for both."""
