// Package service is the mount daemon: one filesystem on one state directory, from start to stop.
//
// It opens the state (state.go), the engine and the core (engine.go), compares the state with the
// newest cut that zstor knows (link.go), mounts, and then keeps four things going until it is told to
// stop: the link announces durable heads to zstor and hears whether this machine may still write; the
// pressure slows writers down before the local disk is full of data that is nowhere else; the evictor
// gives local room back for what is safe on the nodes; the control socket answers the zdbfs command.
//
// Whatever ends it (a signal, an umount, `zdbfs umount`), the end is the same (stop.go): flush, unmount,
// sync, ship as much as time allows, close. It can be killed at any moment instead; the next start
// finds everything that was synced.
//
// What another process must do before this one can go on is zstor's: who owns the filesystem, what is
// dispersed, what may be evicted. Nothing here guesses it. When zstor does not answer, local data
// goes on being served and written, and status says so.
package service
