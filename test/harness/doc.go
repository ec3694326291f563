// Package harness runs a whole QSFS installation for tests and demonstrations: real programs, real mounts, real kills.
//
// A Cluster is a set of storage nodes in groups, a zstor daemon and a zdbfs mount, each a process of the programs under
// test, with a configuration and a key made for it. Each of them can be stopped, killed with SIGKILL, restarted, told to die
// at a named crash point, or reached only through a Proxy that is slow, silent or lying. A Disk is a loop image whose power
// can be cut.
//
// Nothing outlives its test. Processes carry a parent-death signal, cleanups run in reverse order, and a reaper (a second
// process, see Main) ends processes and mounts also when the test binary is killed.
package harness
