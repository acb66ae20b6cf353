// Package remote holds the resources that work on another machine over SSH.
package remote

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/pulumi/pulumi-go-provider/infer"
)

const (
	defaultUser           = "root"
	defaultPort           = 22
	defaultDialErrorLimit = 10
	defaultPerDialTimeout = 15
	unlimited             = -1
)

// Endpoint is a machine that answers SSH and how to log in to it.
type Endpoint struct {
	Host               string   `pulumi:"host"`
	Port               *float64 `pulumi:"port,optional"`
	User               *string  `pulumi:"user,optional"`
	Password           *string  `pulumi:"password,optional"           provider:"secret"`
	PrivateKey         *string  `pulumi:"privateKey,optional"         provider:"secret"`
	PrivateKeyPassword *string  `pulumi:"privateKeyPassword,optional" provider:"secret"`
	AgentSocketPath    *string  `pulumi:"agentSocketPath,optional"`
	HostKey            *string  `pulumi:"hostKey,optional"`
	DialErrorLimit     *int     `pulumi:"dialErrorLimit,optional"`
	PerDialTimeout     *int     `pulumi:"perDialTimeout,optional"`
}

// Annotate gives the fields their defaults and their text in the schema.
func (e *Endpoint) Annotate(a infer.Annotator) {
	a.Describe(&e.Host, "The name or address of the machine.")
	a.Describe(&e.Port, "The port to connect to. Defaults to 22.")
	a.Describe(&e.User, "The user to log in as.")
	a.Describe(&e.Password, "The password to log in with.")
	a.Describe(&e.PrivateKey, "The text of a private SSH key to log in with. It is tried before the password.")
	a.Describe(&e.PrivateKeyPassword, "The password of the private key, if it has one.")
	a.Describe(&e.AgentSocketPath, "The socket of an SSH agent. Defaults to the variable "+
		"SSH_AUTH_SOCK where neither a key nor a password is given.")
	a.Describe(&e.HostKey, "The public host key that the machine must show. Without it any key is accepted.")
	a.Describe(&e.DialErrorLimit, "How many failed attempts to connect are followed by another one; -1 means all. Defaults to 10.")
	a.Describe(&e.PerDialTimeout, "How many seconds one attempt to connect may take; 0 means any time. Defaults to 15.")
	a.SetDefault(&e.Port, defaultPort)
	a.SetDefault(&e.User, defaultUser)
	a.SetDefault(&e.DialErrorLimit, defaultDialErrorLimit)
	a.SetDefault(&e.PerDialTimeout, defaultPerDialTimeout)
}

// Connection is how to reach a machine, if need be through another one.
type Connection struct {
	Endpoint
	Proxy *ProxyConnection `pulumi:"proxy,optional"`
}

// Annotate gives the type its text in the schema.
func (c *Connection) Annotate(a infer.Annotator) {
	a.Describe(&c, "How to connect to a machine.")
	a.Describe(&c.Proxy, "The machine to connect through, if the other one cannot be reached directly.")
}

// ProxyConnection is how to reach the machine between.
type ProxyConnection struct{ Endpoint }

// Annotate gives the type its text in the schema.
func (c *ProxyConnection) Annotate(a infer.Annotator) {
	a.Describe(&c, "How to connect to the machine between (bastion, jump host).")
}

// State written by an older plugin may lack a field that has a default today, so none of them is
// read without one.

func (e *Endpoint) address() string {
	port := defaultPort
	if e.Port != nil {
		port = int(*e.Port)
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port))
}

func (e *Endpoint) user() string {
	if e.User == nil {
		return defaultUser
	}
	return *e.User
}

func (e *Endpoint) dialErrorLimit() int {
	if e.DialErrorLimit == nil {
		return defaultDialErrorLimit
	}
	return *e.DialErrorLimit
}

func (e *Endpoint) perDialTimeout() time.Duration {
	if e.PerDialTimeout == nil {
		return defaultPerDialTimeout * time.Second
	}
	return time.Duration(*e.PerDialTimeout) * time.Second
}

// String names the endpoint in messages, without anything secret.
func (e *Endpoint) String() string { return fmt.Sprintf("%s@%s", e.user(), e.address()) }
