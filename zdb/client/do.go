package client

import (
	"context"
	"errors"
	"os"
	"time"

	"qsfs/zdb/resp"
)

// A Command is a request: the name and its arguments.
type Command [][]byte

// Cmd makes a Command.
func Cmd(name string, args ...[]byte) Command {
	return append(Command{[]byte(name)}, args...)
}

// A Result is the reply to one command of a pipeline. Err is a *ServerError when the server answered an error.
type Result struct {
	Value resp.Value
	Err   error
}

// errTimeout is the cause of contexts that Options.Timeout ended. It is an os.ErrDeadlineExceeded and a
// context.DeadlineExceeded.
var errTimeout error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "no reply in time" }

func (timeoutError) Is(target error) bool {
	return target == os.ErrDeadlineExceeded || target == context.DeadlineExceeded
}

// Pipeline sends the commands together over one connection and returns their results in order; the server executes them
// in that order, with none of this connection's other commands between them. The error is about the way to the server:
// when it is not nil, there are no results, and any number of the commands may have been executed.
func (c *Client) Pipeline(ctx context.Context, cmds ...Command) ([]Result, error) {
	if len(cmds) == 0 {
		return nil, nil
	}
	replies, err := c.roundTrip(ctx, cmds)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(replies))
	for i, v := range replies {
		results[i] = Result{v, replyError(v)}
	}
	return results, nil
}

// Do sends one command and returns its reply, or a *ServerError.
func (c *Client) Do(ctx context.Context, name string, args ...[]byte) (resp.Value, error) {
	replies, err := c.roundTrip(ctx, []Command{Cmd(name, args...)})
	if err != nil {
		return resp.Value{}, err
	}
	return replies[0], replyError(replies[0])
}

func (c *Client) roundTrip(ctx context.Context, cmds []Command) ([]resp.Value, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, time.Now().Add(c.o.Timeout), errTimeout)
	defer cancel()
	for {
		cn, err := c.conn(ctx)
		if err != nil {
			return nil, err
		}
		replies, err := cn.do(ctx, cmds)
		if !errors.Is(err, errNotSent) {
			return replies, err
		}
		c.drop(cn) // it broke between choice and use; nothing was sent, so another one may be used
	}
}
