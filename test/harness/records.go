package harness

// Records gives every key and value of the node's metadata namespace.
func (n *Node) Records() map[string]string {
	n.t.Helper()
	c := n.metaConn()
	defer c.Close()
	keys, err := c.Scan()
	if err != nil {
		n.t.Fatalf("%s: SCAN: %v", n.Name, err)
	}
	records := make(map[string]string, len(keys))
	for _, key := range keys {
		if records[key], err = c.Do("GET", key); err != nil {
			n.t.Fatalf("%s: GET: %v", n.Name, err)
		}
	}
	return records
}

// SetRecord writes a value into the metadata namespace.
func (n *Node) SetRecord(key, value string) {
	n.t.Helper()
	c := n.metaConn()
	defer c.Close()
	if _, err := c.Do("SET", key, value); err != nil {
		n.t.Fatalf("%s: SET: %v", n.Name, err)
	}
}

func (n *Node) metaConn() *Conn {
	n.t.Helper()
	c, err := Dial(n.Address)
	if err == nil {
		_, err = c.Do("SELECT", MetaNamespace, n.Password)
	}
	if err != nil {
		n.t.Fatalf("%s: select the metadata namespace: %v", n.Name, err)
	}
	return c
}
