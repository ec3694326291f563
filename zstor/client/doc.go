// Package client talks to a running zstor daemon over its unix socket.
//
// The daemon serves HTTP/1.1 with JSON bodies on a socket of mode 0600; a stripe is the one
// answer whose body is raw bytes. Every call takes a context and ends with it. Errors are typed:
// what is not dispersed, what cannot be reached right now and what is damaged are different
// answers, and so is a daemon that does not run (ErrDown).
//
// The package also reads the two notes that the daemon leaves in the state directory: who owns
// the filesystem (ReadOwner) and the newest cut that this machine knows (ReadCut). A mount needs
// both before it can open its engine, daemon or no daemon.
package client
