package client

import (
	"context"
	"errors"
	"strconv"
	"time"

	"qsfs/zdb/resp"
)

// Flush removes all data of the namespace, which must be private and have a password. When it returns nil it is gone, also
// after a crash; the namespace keeps its settings and has another incarnation.
func (c *Client) Flush(ctx context.Context) error {
	_, err := c.Do(ctx, "FLUSH")
	return err
}

// Wait returns true when another connection has executed a command in the namespace, "*" for any, and false when nobody did
// within most, which the server allows to be 100 ms to 30 min. What was executed before the server has the WAIT is missed: look
// at what the command may have changed when Wait returns, not only before.
//
// It makes a connection of its own, for the reply comes when it comes; Options.Timeout does not bound it.
func (c *Client) Wait(ctx context.Context, command string, most time.Duration) (executed bool, err error) {
	nc, err := Connect(ctx, c.o)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	defer context.AfterFunc(c.ctx, func() { nc.Close() })()
	ms := strconv.AppendInt(nil, most.Milliseconds(), 10)
	_, err = nc.Write(resp.AppendCommand(nil, Cmd("WAIT", []byte(command), ms)...))
	var v resp.Value
	if err == nil {
		nc.SetReadDeadline(time.Now().Add(most + c.o.Timeout)) // of a server that is gone
		v, err = resp.NewDecoder(nc, c.o.Limits).Read()
	}
	switch {
	case err != nil && c.ctx.Err() != nil:
		return false, ErrClosed
	case err != nil && ctx.Err() != nil:
		return false, &ConnError{Address: c.o.Address, Op: "wait", Err: context.Cause(ctx)}
	case err != nil:
		return false, &ConnError{Address: c.o.Address, Op: "wait", Err: err}
	}
	switch err := replyError(v); {
	case errors.Is(err, errWaitOver):
		return false, nil
	case err != nil:
		return false, err
	case v.Kind != resp.Simple:
		return false, unexpected(v)
	}
	return true, nil
}

// errWaitOver is the class of the reply that ends a WAIT for which nothing happened.
var errWaitOver = errors.New("nobody executed the command in time")
