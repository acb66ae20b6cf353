package main

import (
	"encoding/pem"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func run(e *engine, connection values, options ...option) error {
	_, err := e.create(remoteCommand, values{"connection": connection, "create": "true"}, options...)
	return err
}

func mustRun(t *testing.T, e *engine, connection values) {
	t.Helper()
	if err := run(e, connection); err != nil {
		t.Fatal(err)
	}
}

func TestWrongHostKeyIsRefusedAtOnceWithBothFingerprints(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	for name, key := range map[string]ssh.Signer{"of the same type": newEd25519(t), "of another type": newECDSA(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startSSH(t)
			demanded := string(ssh.MarshalAuthorizedKey(key.PublicKey()))
			err := run(newEngine(t), server.connection(values{"hostKey": demanded, "dialErrorLimit": -1}))
			mustFail(t, err, server.address(),
				ssh.FingerprintSHA256(key.PublicKey()), ssh.FingerprintSHA256(server.hostKeys[0].PublicKey()))
			mustEqual(t, "attempts", server.accepted.Load(), 1)
			mustEqual(t, "logins", server.logins.Load(), 0)
			server.waitUntilUnused()
		})
	}
	mustFail(t, run(newEngine(t), server.connection(values{"hostKey": "not a key"})), "hostKey cannot be read")
	mustEqual(t, "connections with an unreadable hostKey", server.accepted.Load(), 0)
}

func TestHostKeyIsFoundAmongSeveralAndNotDemandedWithoutOne(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.hostKeys = append(s.hostKeys, newECDSA(t)) })
	for _, key := range server.hostKeys {
		line := string(ssh.MarshalAuthorizedKey(key.PublicKey()))
		mustRun(t, e, server.connection(values{"hostKey": strings.TrimSpace(line) + " root@machine"}))
	}
	mustRun(t, e, server.connection(values{"hostKey": nil}))
}

func TestProxyIsPassedWithCredentialsOfItsOwn(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	proxy := startSSH(t, func(s *sshServer) { s.authorized = nil; s.password = "proxy-password" })
	target := startSSH(t)
	through := func(changes values) values {
		own := values{"privateKey": nil, "password": "proxy-password"}
		return target.connection(values{"proxy": proxy.connection(own, changes)})
	}
	step := e.mustCreate(remoteCommand, values{"connection": through(nil), "create": "echo arrived"})
	mustEqual(t, "stdout", e.output(step, "stdout"), "arrived")
	mustEqual(t, "logins at the proxy", proxy.logins.Load(), 1)
	mustEqual(t, "connections passed on by the proxy", proxy.forwarded.Load(), 1)
	mustEqual(t, "connections at the target", target.accepted.Load(), 1)
	proxy.waitUntilUnused()
	target.waitUntilUnused()

	other := newEd25519(t)
	demanded := string(ssh.MarshalAuthorizedKey(other.PublicKey()))
	mustFail(t, run(e, through(values{"hostKey": demanded})), "proxy", proxy.address(),
		ssh.FingerprintSHA256(other.PublicKey()), ssh.FingerprintSHA256(proxy.hostKeys[0].PublicKey()))
	mustFail(t, run(e, target.connection(values{
		"hostKey": demanded, "proxy": proxy.connection(values{"privateKey": nil, "password": "proxy-password"}),
	})), target.address(), ssh.FingerprintSHA256(other.PublicKey()))
	mustFail(t, run(e, through(values{"password": "wrong"})), "proxy", proxy.address(), "gave up after 1")
	mustEqual(t, "logins at the target", target.logins.Load(), 1)
	proxy.waitUntilUnused()
	target.waitUntilUnused()
}

func TestWhileAMachineBootsItsTimeIsToldAndTheCauseOnlyWhereItChanges(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	listener := listen(t, 0)
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	key := newEd25519(t)
	ended := make(chan error, 1)
	go func() {
		ended <- run(e, values{
			"host": "127.0.0.1", "port": port, "privateKey": testKeyText,
			"hostKey": string(ssh.MarshalAuthorizedKey(key.PublicKey())), "dialErrorLimit": -1,
		})
	}()
	eventually(t, "an attempt has failed", func() bool { return strings.Contains(e.info(), "no SSH yet") })
	server := startSSHOn(t, listen(t, port), func(s *sshServer) {
		s.hostKeys = []ssh.Signer{key}
		s.refusals.Store(2)
	})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`\d+ s`).ReplaceAllString(e.info(), "N s")
	mustEqual(t, "what was told", told, "boots, no SSH yet (N s)\n"+
		"no login yet (N s): ssh: unable to authenticate, attempted methods [none publickey], no supported methods remain\n"+
		"logged in after N s")
	server.waitUntilUnused()
}

func TestALoginThatSucceedsAtOnceIsNotTold(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t)
	mustRun(t, e, server.connection())
	mustEqual(t, "what was told", e.info(), "")
}

func TestTheCauseIsToldWhereFewAttemptsAreLeft(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	listener := listen(t, 0)
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	mustFail(t, run(e, values{
		"host": "127.0.0.1", "port": port, "privateKey": testKeyText, "dialErrorLimit": 2,
	}), "gave up after 3 failed attempts", "connection refused")
	mustEqual(t, "what was told", e.info(), "boots, no SSH yet (0 s): connection refused, tries left: 2\n"+
		"boots, no SSH yet (0 s): connection refused, tries left: 1")
}

func TestDialErrorLimitEndsTheAttempts(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.authorized = nil })
	mustFail(t, run(e, server.connection(values{"dialErrorLimit": 2})),
		"tester@"+server.address(), "gave up after 3 failed attempts", "dialErrorLimit is 2", "unable to authenticate")
	mustEqual(t, "attempts", server.accepted.Load(), 3)
	server.waitUntilUnused()
}

func TestUnlimitedAttemptsEndWithTheTimeout(t *testing.T) {
	t.Parallel()
	server := startSSH(t, func(s *sshServer) { s.authorized = nil })
	err := run(newEngine(t), server.connection(values{"dialErrorLimit": -1}), withTimeout(1))
	mustFail(t, err, "stopped after 1", "custom timeout", "no login to", server.address())
	server.waitUntilUnused()
}

func TestCancelEndsTheAttempts(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.authorized = nil })
	ended := make(chan error, 1)
	go func() { ended <- run(e, server.connection(values{"dialErrorLimit": -1})) }()
	eventually(t, "an attempt has failed", func() bool { return strings.Contains(e.info(), "no login yet") })
	e.cancel()
	mustFail(t, <-ended, "the update was cancelled")
}

func TestPortThatAcceptsButNeverGreetsCostsOneDialTimeout(t *testing.T) {
	t.Parallel()
	silent := listen(t, 0) // nobody accepts: the kernel completes the TCP handshake
	defer func() { _ = silent.Close() }()
	err := run(newEngine(t), values{
		"host": "127.0.0.1", "port": silent.Addr().(*net.TCPAddr).Port, "privateKey": testKeyText,
		"dialErrorLimit": 0, "perDialTimeout": 1,
	})
	mustFail(t, err, "gave up after 1 failed attempts", "no answer within 1s")
}

func TestNoDialTimeoutMeansAnyTime(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	mustRun(t, newEngine(t), server.connection(values{"perDialTimeout": 0}))
}

func TestPasswordOpensBothWaysThatServersAskForIt(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, interactive := range []bool{false, true} {
		server := startSSH(t, func(s *sshServer) {
			s.authorized, s.password, s.interactive = nil, "hunter2-password", interactive
		})
		mustRun(t, e, server.connection(values{"privateKey": nil, "password": "hunter2-password"}))
		message := mustFail(t, run(e, server.connection(values{"privateKey": nil, "password": "hunter2-wrong"})))
		mustNotContain(t, message, "hunter2")
		server.waitUntilUnused()
	}
}

func TestProtectedPrivateKeyNeedsItsPassword(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(testKeyRaw, "", []byte("key-password"))
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(block))
	mustRun(t, e, server.connection(values{"privateKey": key, "privateKeyPassword": "key-password"}))
	for connection, reason := range map[*values]string{
		{"privateKey": key}: "give its password as privateKeyPassword",
		{"privateKey": key, "privateKeyPassword": "wrong-password"}: "does not open with privateKeyPassword",
		{"privateKey": "no key at all"}:                             "privateKey cannot be read",
	} {
		message := mustFail(t, run(e, server.connection(*connection)), reason)
		mustNotContain(t, message, strings.Split(key, "\n")[1], "wrong-password", "no key at all")
	}
	mustEqual(t, "connections", server.accepted.Load(), 1)
}

// startAgent serves the test's key on a socket and counts the clients that are connected.
func startAgent(t *testing.T) (socket string, clients func() int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: testKeyRaw}); err != nil {
		t.Fatal(err)
	}
	changes := make(chan int)
	count := make(chan int)
	go func() {
		for total := 0; ; {
			select {
			case change, open := <-changes:
				if !open {
					return
				}
				total += change
			case count <- total:
			}
		}
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			changes <- 1
			go func() { _ = agent.ServeAgent(keys, conn); _ = conn.Close(); changes <- -1 }()
		}
	}()
	return dir + "/socket", func() int { return <-count }
}

func TestAgentSignsAndIsLeftAfterwards(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	socket, clients := startAgent(t)
	mustRun(t, e, server.connection(values{"privateKey": nil, "agentSocketPath": socket}))
	mustRun(t, e, server.connection(values{"privateKey": nil, "agentSocketPath": socket,
		"proxy": startSSH(t).connection(values{"privateKey": nil, "agentSocketPath": socket})}))
	eventually(t, "the agent has no clients", func() bool { return clients() == 0 })
	mustFail(t, run(e, server.connection(values{"agentSocketPath": socket + "-elsewhere"})),
		"the SSH agent does not answer", "agentSocketPath")
}

func TestAgentOfTheEnvironmentIsUsed(t *testing.T) {
	server := startSSH(t)
	socket, _ := startAgent(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	mustRun(t, newEngine(t), server.connection(values{"privateKey": nil}))
}

func TestAgentOfTheEnvironmentIsLeftAloneWhereAKeyOrAPasswordIsGiven(t *testing.T) {
	server := startSSH(t)
	t.Setenv("SSH_AUTH_SOCK", t.TempDir()+"/ended")
	e := newEngine(t)
	mustRun(t, e, server.connection())
	mustRun(t, e, server.connection(values{"proxy": startSSH(t).connection()}))
	guarded := startSSH(t, func(s *sshServer) { s.password = "open" })
	mustRun(t, e, guarded.connection(values{"privateKey": nil, "password": "open"}))
	mustFail(t, run(e, server.connection(values{"privateKey": nil})), "the SSH agent does not answer", "SSH_AUTH_SOCK")
}

func TestTimesBetweenAttemptsGrow(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.authorized = nil })
	began := time.Now()
	mustFail(t, run(e, server.connection(values{"dialErrorLimit": 4})))
	// 100 ms, 150, 225 and 338: less would be a loop without pauses.
	if waited := time.Since(began); waited < 800*time.Millisecond {
		t.Errorf("five attempts took only %s", waited)
	}
}
