package proto

// HostFile is a file that a host needs to use archives through a node.
type HostFile struct {
	// Client names the programs that read it, for people.
	Client string
	Path   string
	// Note says in a sentence what the file does to the host, for people.
	Note string
	// Head stands once before the Text of each archive.
	Head, Text string
}

// Content is all of the file.
func (f HostFile) Content() string { return f.Head + f.Text }

// Command is the shell command that makes the file.
func (f HostFile) Command() string {
	return "sudo tee " + f.Path + " <<'END'\n" + f.Content() + "END\n"
}
