package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Conn is a connection that speaks just enough of the protocol to test a node. It is written apart from the programs' own
// client, so that a fault there does not hide itself.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader
}

// Dial connects to a node.
func Dial(address string) (*Conn, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &Conn{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Close closes the connection.
func (c *Conn) Close() { _ = c.conn.Close() }

// ErrNil is the reply of a node that has no value.
var ErrNil = errors.New("nil reply")

// ReplyError is an error that the node answered.
type ReplyError string

// Error gives the node's words.
func (e ReplyError) Error() string { return string(e) }

// Do sends one command and gives its simple, bulk or integer reply.
func (c *Conn) Do(args ...string) (string, error) {
	reply, err := c.ask(args)
	if err != nil {
		return "", err
	}
	text, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("%s answered a list", args[0])
	}
	return text, nil
}

// Scan gives all keys of the selected namespace.
func (c *Conn) Scan() (keys []string, err error) {
	for command := []string{"SCAN"}; ; {
		reply, err := c.ask(command)
		var end ReplyError
		if errors.As(err, &end) && strings.Contains(string(end), "No more") {
			return keys, nil
		}
		if err != nil {
			return nil, err
		}
		page, _ := reply.([]any)
		if len(page) != 2 {
			return nil, fmt.Errorf("SCAN answered %d elements", len(page))
		}
		cursor, _ := page[0].(string)
		entries, _ := page[1].([]any)
		for _, e := range entries {
			fields, _ := e.([]any)
			if len(fields) == 0 {
				return nil, errors.New("SCAN answered an entry without a key")
			}
			key, _ := fields[0].(string)
			keys = append(keys, key)
		}
		command = []string{"SCAN", cursor}
	}
}

// ask sends one command and gives its reply: a string, or a list of replies.
func (c *Conn) ask(args []string) (any, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c.conn, b.String()); err != nil {
		return nil, err
	}
	return c.reply()
}

func (c *Conn) reply() (any, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return nil, ReplyError(rest)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n > 64<<20 {
		return nil, fmt.Errorf("unexpected reply %q", line)
	}
	if n < 0 {
		return nil, ErrNil
	}
	switch kind {
	case '$':
		body := make([]byte, n+2)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return nil, err
		}
		return string(body[:n]), nil
	case '*':
		list := make([]any, n)
		for i := range list {
			if list[i], err = c.reply(); err != nil && !errors.Is(err, ErrNil) {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("unexpected reply %q", line)
}
