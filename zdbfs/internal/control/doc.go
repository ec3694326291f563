// Package control lets the zdbfs command talk to the mount daemon over a unix socket.
//
// The socket has mode 0600 and stands beside zstor's. It speaks HTTP/1.1 with JSON bodies. Nothing of
// it is for other programs but the status, whose JSON only grows.
package control
