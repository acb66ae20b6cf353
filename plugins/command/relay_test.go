package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// startRelay forwards connections to address until cut, as a network that fails would.
func startRelay(t *testing.T, address string) (port int, cut func()) {
	t.Helper()
	listener := listen(t, 0)
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			go func() { _, _ = io.Copy(server, client) }()
			go func() { _, _ = io.Copy(client, server) }()
		}
	}()
	cut = func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	t.Cleanup(cut)
	return listener.Addr().(*net.TCPAddr).Port, cut
}
