package main

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"qsfs/test/harness"
)

// stop disperses what is left, with progress, then unmounts and ends everything. A second Ctrl-C skips the waiting: nothing
// is lost by that, what is not dispersed stays in the state directory.
func stop(c *harness.Cluster) {
	f := c.Front
	hurry := make(chan os.Signal, 1)
	// One Ctrl-C may arrive twice, by way of make and go run.
	time.AfterFunc(time.Second, func() { signal.Notify(hurry, os.Interrupt) })
	defer signal.Stop(hurry)

	fmt.Println("\nDispersing what is left; Ctrl-C again stops without waiting.")
	shipped := make(chan harness.Result, 1)
	go func() { shipped <- f.Command(stopPatience, "zdbfs", "sync", "--remote") }()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
wait:
	for {
		select {
		case r := <-shipped:
			if r.Code != 0 {
				fmt.Printf("not everything is dispersed; it stays in %s and ships at the next run:\n%s", f.State, r.Stderr)
			}
			break wait
		case <-hurry:
			fmt.Printf("not waiting; what is not dispersed stays in %s and ships at the next run\n", f.State)
			break wait
		case <-ticker.C:
			if m, err := f.TryMountStatus(); err == nil {
				fmt.Println("  at risk:", atRisk(m))
			}
		}
	}
	fmt.Println("Unmounting …")
	f.Unmount()
	fmt.Println("Stopping zstor …")
	f.Zstor.Stop(2 * time.Minute)
	fmt.Println("Stopping the nodes …")
	for _, n := range c.Nodes {
		n.Stop(time.Minute)
	}
	fmt.Printf("Stopped. Everything is in place for the next `make run`.\n")
}
