package server

// cmdStop is STOP → a line. With admin rights it stops the server as a signal does: what has arrived is answered, the log
// is made durable, the process ends. Anybody else only ends the connection; the original's clients take an error in this
// place for a failed server.
func cmdStop(s *session, _ [][]byte) {
	if !s.admin {
		s.srv.stats.unauthorized.Add(1)
		s.simple(textStopOwn)
		s.hangUp = true
		return
	}
	s.simple(textStop)
	s.srv.stopping.Do(func() { close(s.srv.stop) })
}
