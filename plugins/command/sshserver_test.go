package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// sshServer is an SSH server on the loopback interface that really runs commands. Like OpenSSH it
// hands signals on to the command's process group, and does not end a command whose client is gone.
type sshServer struct {
	t    *testing.T
	port int

	hostKeys    []ssh.Signer
	authorized  []ssh.PublicKey
	password    string
	interactive bool
	acceptEnv   []string
	noSFTP      bool
	// Like OpenSSH for root: a request for a signal is refused.
	noSignals bool
	// oneSession refuses a second session on the same connection.
	oneSession bool
	shell      string
	// refusals is how many logins are refused before one is accepted.
	refusals atomic.Int64
	// logins and accepted count the connections so far, open those that are still there, and forwarded
	// those that were passed on to another machine.
	logins, accepted, open, forwarded atomic.Int64

	mu        sync.Mutex
	processes []int
	conns     []net.Conn
}

// startSSH starts a server that has one Ed25519 host key and accepts the key of testKey, after
// configure has changed what a test needs otherwise.
func startSSH(t *testing.T, configure ...func(*sshServer)) *sshServer {
	t.Helper()
	return startSSHOn(t, listen(t, 0), configure...)
}

func startSSHOn(t *testing.T, listener net.Listener, configure ...func(*sshServer)) *sshServer {
	t.Helper()
	s := &sshServer{
		t:          t,
		port:       listener.Addr().(*net.TCPAddr).Port,
		hostKeys:   []ssh.Signer{newEd25519(t)},
		authorized: []ssh.PublicKey{testKey.PublicKey()},
		shell:      "/bin/bash",
	}
	for _, change := range configure {
		change(s)
	}
	var connections sync.WaitGroup
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.open.Add(1)
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			connections.Go(func() {
				defer s.open.Add(-1)
				s.serve(conn)
			})
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for _, pid := range s.processes {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
		for _, conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		connections.Wait()
	})
	return s
}

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func newEd25519(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, key)
}

func newECDSA(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, key)
}

func signer(t *testing.T, key any) ssh.Signer {
	t.Helper()
	result, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (s *sshServer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *sshServer) hostKey() string {
	return string(ssh.MarshalAuthorizedKey(s.hostKeys[0].PublicKey()))
}

// waitUntilUnused waits until every connection has ended, and fails the test if that never happens.
func (s *sshServer) waitUntilUnused() {
	s.t.Helper()
	eventually(s.t, "all connections are closed", func() bool { return s.open.Load() == 0 })
}

// eventually waits for a condition that must come; the limit only ends a failing test.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 1000 {
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it never came true that %s", what)
}

func (s *sshServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, channels, requests, err := ssh.NewServerConn(conn, s.config())
	if err != nil {
		return
	}
	s.logins.Add(1)
	go ssh.DiscardRequests(requests)
	var work sync.WaitGroup
	sessions := 0
	for channel := range channels {
		switch channel.ChannelType() {
		case "session":
			if sessions++; s.oneSession && sessions > 1 {
				_ = channel.Reject(ssh.ResourceShortage, "no more sessions")
				continue
			}
			work.Go(func() { s.session(channel, conn) })
		case "direct-tcpip":
			work.Go(func() { s.forward(channel) })
		default:
			_ = channel.Reject(ssh.UnknownChannelType, "unknown")
		}
	}
	_ = server.Close()
}

func (s *sshServer) config() *ssh.ServerConfig {
	refuse := func() error {
		if s.refusals.Add(-1) >= 0 {
			return errors.New("not yet")
		}
		return nil
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			known := slices.ContainsFunc(s.authorized, func(k ssh.PublicKey) bool {
				return bytes.Equal(k.Marshal(), key.Marshal())
			})
			if !known {
				return nil, errors.New("unknown key")
			}
			return nil, refuse()
		},
	}
	if s.password != "" && !s.interactive {
		config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if string(password) != s.password {
				return nil, errors.New("wrong password")
			}
			return nil, refuse()
		}
	}
	if s.interactive {
		config.KeyboardInteractiveCallback = func(
			_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge,
		) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 || answers[0] != s.password {
				return nil, errors.New("wrong answer")
			}
			return nil, refuse()
		}
	}
	for _, key := range s.hostKeys {
		config.AddHostKey(key)
	}
	return config
}

func (s *sshServer) forward(request ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(request.ExtraData(), &target); err != nil {
		_ = request.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port))))
	if err != nil {
		_ = request.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := request.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	s.forwarded.Add(1)
	go ssh.DiscardRequests(requests)
	var directions sync.WaitGroup
	directions.Go(func() { _, _ = io.Copy(channel, conn); _ = channel.Close() })
	directions.Go(func() { _, _ = io.Copy(conn, channel); _ = conn.Close() })
	directions.Wait()
}

func (s *sshServer) session(request ssh.NewChannel, conn net.Conn) {
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	from, to := conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr)
	environment := []string{
		"PATH=" + os.Getenv("PATH"),
		fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", from.IP, from.Port, to.IP, to.Port),
	}
	var process *exec.Cmd
	for request := range requests {
		accepted := false
		switch request.Type {
		case "env":
			var variable struct{ Name, Value string }
			if ssh.Unmarshal(request.Payload, &variable) == nil && slices.Contains(s.acceptEnv, variable.Name) {
				environment = append(environment, variable.Name+"="+variable.Value)
				accepted = true
			}
		case "exec":
			var command struct{ Text string }
			if process == nil && ssh.Unmarshal(request.Payload, &command) == nil {
				process, err = s.start(channel, command.Text, environment)
				accepted = err == nil
			}
		case "subsystem":
			var subsystem struct{ Name string }
			if ssh.Unmarshal(request.Payload, &subsystem) == nil && subsystem.Name == "sftp" && !s.noSFTP {
				accepted = true
				go func() {
					if server, err := sftp.NewServer(channel); err == nil {
						_ = server.Serve()
					}
					_ = channel.Close()
				}()
			}
		case "signal":
			var signal struct{ Name string }
			numbers := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
			if ssh.Unmarshal(request.Payload, &signal) == nil && process != nil && !s.noSignals {
				_ = syscall.Kill(-process.Process.Pid, numbers[signal.Name])
			}
		}
		if request.WantReply {
			_ = request.Reply(accepted, nil)
		}
	}
}

// start runs a command by the login shell, in a session of its own, with its streams on the channel, and closes the channel when it has ended.
func (s *sshServer) start(channel ssh.Channel, command string, environment []string) (*exec.Cmd, error) {
	process := exec.Command(s.shell, "-c", command)
	process.Env = environment
	process.Stdout, process.Stderr = channel, channel.Stderr()
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.processes = append(s.processes, process.Process.Pid)
	s.mu.Unlock()
	go func() { _, _ = io.Copy(stdin, channel); _ = stdin.Close() }()
	go func() {
		_ = process.Wait()
		status := process.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			names := map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL"}
			_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Name       string
				CoreDumped bool
				Message    string
				Language   string
			}{Name: names[status.Signal()]}))
		} else {
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
		}
		_ = channel.Close()
	}()
	return process, nil
}

// gone says whether the process whose id a command wrote to a file has ended.
func gone(t *testing.T, file string) bool {
	t.Helper()
	return errors.Is(syscall.Kill(writtenPID(t, file), 0), syscall.ESRCH)
}

func writtenPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, fmt.Sprintf("a process id is in %s", file), func() bool {
		text, _ := os.ReadFile(file)
		_, err := fmt.Sscanf(string(text), "%d\n", &pid)
		return err == nil
	})
	return pid
}
