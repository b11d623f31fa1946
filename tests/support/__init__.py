"""What the tests stand on: real servers, a cluster of nodes, and a reactor that is looked at afterwards."""
