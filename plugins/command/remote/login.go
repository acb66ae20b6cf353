package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const (
	firstDelay = 100 * time.Millisecond
	backOff    = 1.5
	maxDelay   = 5 * time.Second
)

// login is a logged-in SSH connection with everything that was opened for it: the connection to the
// machine between and the agents' sockets.
type login struct {
	*ssh.Client
	opened []io.Closer
}

// Close ends the connection and all that was opened for it, the last first. It may be called twice.
func (l *login) Close() {
	for _, closer := range slices.Backward(l.opened) {
		_ = closer.Close() // the other side may have closed it already, which is as good
	}
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// open logs in, trying as often as the connection's limits allow. The caller closes the result.
func (c *Connection) open(ctx context.Context) (*login, error) {
	l := &login{}
	var tcp net.Dialer
	dial := tcp.DialContext
	if c.Proxy != nil {
		hop, err := l.enter(ctx, &c.Proxy.Endpoint, dial)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("proxy: %w", err)
		}
		dial = hop.DialContext
	}
	client, err := l.enter(ctx, &c.Endpoint, dial)
	if err != nil {
		l.Close()
		return nil, err
	}
	l.Client = client
	return l, nil
}

// enter logs in to one machine. A machine that refuses the login is tried again like one that does
// not answer: while it boots, its authorized keys may come after its SSH server. A wrong host key is
// final, since no waiting makes it right.
func (l *login) enter(ctx context.Context, to *Endpoint, dial dialer) (*ssh.Client, error) {
	config, err := l.config(to)
	if err != nil {
		return nil, fmt.Errorf("cannot log in to %s: %w", to, err)
	}
	limit := to.dialErrorLimit()
	waiting := newWaiting(ctx)
	delay := firstDelay
	for attempts := 1; ; attempts++ {
		client, err := attempt(ctx, to, dial, config)
		if err == nil {
			waiting.ended()
			l.opened = append(l.opened, client)
			return client, nil
		}
		if wrong := (*hostKeyError)(nil); errors.As(err, &wrong) {
			return nil, wrong
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no login to %s in %d attempts, the last one: %w", to, attempts, err)
		}
		if limit > unlimited && attempts > limit {
			return nil, fmt.Errorf("no login to %s: gave up after %d failed attempts (dialErrorLimit is %d), "+
				"the last one: %w", to, attempts, limit, err)
		}
		left := unlimited
		if limit > unlimited {
			left = limit + 1 - attempts
		}
		waiting.failed(err, left)
		select {
		case <-time.After(delay):
			delay = min(time.Duration(float64(delay)*backOff), maxDelay)
		case <-ctx.Done():
		}
	}
}

// attempt dials and shakes hands once. The time limit holds for both: a port that accepts but never
// greets, as a half-booted machine has, must not hold the attempt for ever.
func attempt(ctx context.Context, to *Endpoint, dial dialer, config *ssh.ClientConfig) (*ssh.Client, error) {
	if limit := to.perDialTimeout(); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
		defer cancel()
	}
	conn, err := dial(ctx, "tcp", to.address())
	if err != nil {
		return nil, &unreachableError{causeOr(ctx, err)}
	}
	// A deadline would not do: a connection through a proxy has none.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, to.address(), config)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, causeOr(ctx, err)
	}
	return ssh.NewClient(sshConn, channels, requests), nil
}

// causeOr prefers the reason why ctx ended over what the closed connection says of itself.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (l *login) config(to *Endpoint) (*ssh.ClientConfig, error) {
	config := &ssh.ClientConfig{User: to.user()}
	if err := verifyHostKey(config, to); err != nil {
		return nil, err
	}
	if to.PrivateKey != nil {
		signer, err := parsePrivateKey(*to.PrivateKey, to.PrivateKeyPassword)
		if err != nil {
			return nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if to.Password != nil {
		config.Auth = append(config.Auth, ssh.Password(*to.Password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				return slices.Repeat([]string{*to.Password}, len(questions)), nil
			}))
	}
	if socket := to.agentSocket(); socket != "" {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil, fmt.Errorf("the SSH agent does not answer: %w; "+
				"start one, or correct agentSocketPath or SSH_AUTH_SOCK", err)
		}
		l.opened = append(l.opened, conn)
		config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(conn).Signers))
	}
	return config, nil
}

// agentSocket is the socket of the agent to ask, or nothing. That of the environment is for a login
// that has nothing else: a step that has its key must not depend on who is logged in where it runs.
func (e *Endpoint) agentSocket() string {
	if e.AgentSocketPath != nil {
		return *e.AgentSocketPath
	}
	if e.PrivateKey != nil || e.Password != nil {
		return ""
	}
	return os.Getenv("SSH_AUTH_SOCK")
}

func parsePrivateKey(text string, password *string) (ssh.Signer, error) {
	if password != nil {
		signer, err := ssh.ParsePrivateKeyWithPassphrase([]byte(text), []byte(*password))
		if err != nil {
			return nil, fmt.Errorf("privateKey does not open with privateKeyPassword: %w", err)
		}
		return signer, nil
	}
	signer, err := ssh.ParsePrivateKey([]byte(text))
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, errors.New("privateKey is protected: give its password as privateKeyPassword")
	}
	if err != nil {
		return nil, fmt.Errorf("privateKey cannot be read: %w", err)
	}
	return signer, nil
}

// hostKeyError says that another machine answers than the program expects.
type hostKeyError struct {
	host            string
	shown, demanded string
	shownT, demandT string
}

func (e *hostKeyError) Error() string {
	return fmt.Sprintf("%s shows the host key %s (%s), but hostKey demands %s (%s): either the machine was "+
		"made anew, then correct hostKey, or another machine answers in its place",
		e.host, e.shown, e.shownT, e.demanded, e.demandT)
}

// verifyHostKey makes config accept only the demanded key, or any if none is demanded.
func verifyHostKey(config *ssh.ClientConfig, to *Endpoint) error {
	if to.HostKey == nil {
		config.HostKeyCallback = ssh.InsecureIgnoreHostKey() //nolint:gosec // as the published plugin documents
		return nil
	}
	demanded, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*to.HostKey))
	if err != nil {
		return fmt.Errorf("hostKey cannot be read: %w; write it like a line of ssh_host_ed25519_key.pub", err)
	}
	config.HostKeyAlgorithms = preferredFor(demanded.Type())
	config.HostKeyCallback = func(_ string, _ net.Addr, shown ssh.PublicKey) error {
		if bytes.Equal(shown.Marshal(), demanded.Marshal()) {
			return nil
		}
		return &hostKeyError{
			host:  to.address(),
			shown: ssh.FingerprintSHA256(shown), shownT: shown.Type(),
			demanded: ssh.FingerprintSHA256(demanded), demandT: demanded.Type(),
		}
	}
	return nil
}

// preferredFor asks a server that has several host keys for the one of the demanded type first. The
// other types stay on the list, so that a server without it is refused by its fingerprint.
func preferredFor(keyType string) []string {
	var first, others []string
	for _, algorithm := range ssh.SupportedAlgorithms().HostKeys {
		isRSA := keyType == ssh.KeyAlgoRSA && slices.Contains([]string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512}, algorithm)
		switch {
		case algorithm == keyType || isRSA:
			first = append(first, algorithm)
		case !strings.Contains(algorithm, "-cert-"):
			others = append(others, algorithm)
		}
	}
	return append(first, others...)
}
