package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/pki"
)

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Make the certificates and keys of a cluster, or remove a dead node",
		Long: `Make what several nodes need to act as one cache: certificates that prove their identity,
a key that encrypts their gossip, and a configuration for each. The commands work in a
directory on the operator's own machine, which keeps the private key that signs the
certificates. Copy the directory of each node to its machine. Only "remove" talks to a node.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.clusterInitCommand(), a.clusterAddCommand(), a.clusterRenewCommand(), a.clusterRotateKeyCommand(), a.clusterRemoveCommand())
	return cmd
}

// needing adds flags that must be there to what is checked of a command line, so
// that their lack is an error of usage.
func needing(args cobra.PositionalArgs, flags ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		for _, name := range flags {
			if !cmd.Flags().Changed(name) {
				return fmt.Errorf("--%s is missing", name)
			}
		}
		return args(cmd, words)
	}
}

// seedFlag is the flag of those that make nodes.
func seedFlag(cmd *cobra.Command, seeds *[]string, otherwise string) {
	cmd.Flags().StringSliceVar(seeds, "seed", nil, "`HOST` or host:port that nodes join through; may be repeated (default "+otherwise+")")
}

// dirFlag is the directory of a cluster that there is.
func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "`DIR` that \"aptmesh cluster init\" made")
	_ = cmd.MarkFlagDirname("dir") // fails for unknown flags only
}

func (a *app) clusterInitCommand() *cobra.Command {
	var c pki.NewCluster
	var nodes []string
	cmd := &cobra.Command{
		Use:   "init --name CLUSTER --nodes NODE,NODE...",
		Short: "Make a new cluster",
		Long: `Make a certificate authority, a gossip key, and for every node a directory with its
certificate, its keys and a configuration that names the other nodes. A node's name is in
its certificate. It is also the host name at which the other nodes contact it, unless an address
is given with it, as in fra1=10.0.0.5, or --seed names other hosts. Existing files are never
overwritten.`,
		Example: `  aptmesh cluster init --name prod --nodes fra1,ams1,nyc1
  aptmesh cluster init --name prod --nodes fra1=10.0.0.5,ams1=10.8.0.5
  aptmesh cluster init --name prod --nodes fra1,ams1,nyc1 --seed cache.example.org --dir /root/prod`,
		Args: needing(takes(0, 0, ""), "name", "nodes"),
		RunE: func(_ *cobra.Command, _ []string) error {
			if c.Dir == "" {
				c.Dir = c.Name
			}
			for _, text := range nodes {
				n, err := pki.ParseNode(text)
				if err != nil {
					return err
				}
				c.Nodes = append(c.Nodes, n)
			}
			if err := pki.InitCluster(c); err != nil {
				return err
			}
			printNewCluster(a.out, c)
			return nil
		},
	}
	cmd.Flags().StringVar(&c.Name, "name", "", "name of the `CLUSTER`")
	cmd.Flags().StringSliceVar(&nodes, "nodes", nil, "names of the `NODE`s, each NAME or NAME=ADDRESS")
	cmd.Flags().StringVar(&c.Dir, "dir", "", "`DIR` to make (default the cluster's name)")
	cmd.Flags().StringVar(&c.KeysDir, "keys-dir", pki.KeysDir, "`DIR` of the keys on the machine of a node")
	_ = cmd.MarkFlagDirname("dir")
	seedFlag(cmd, &c.Seeds, "the other nodes, by name")
	return cmd
}

// printNewCluster says what there is now, and what to do with it.
func printNewCluster(w io.Writer, c pki.NewCluster) {
	fmt.Fprintf(w, "Made the cluster %s in %s:\n\n", c.Name, c.Dir)
	rows := [][]string{
		{"  " + filepath.Join(c.Dir, "ca-key.pem"), "lets nodes in; keep it here, on no node, and safe"},
		{"  " + filepath.Join(c.Dir, "ca.pem"), "the certificate that goes with it"},
		{"  " + filepath.Join(c.Dir, "gossip.key"), "what all nodes share"},
	}
	var byName []string // nodes without an address
	for _, n := range c.Nodes {
		rows = append(rows, []string{"  " + filepath.Join(c.Dir, n.Name) + "/", "all that node " + n.Name + " needs"})
		if n.Address == "" {
			byName = append(byName, n.Name)
		}
	}
	var b strings.Builder
	table(&b, nil, rows)
	fmt.Fprintf(w, "%s\nNext, for each node:\n\n", b.String())
	printNodeSteps(w, c.Dir, c.Nodes[0], c.KeysDir)
	if len(c.Seeds) == 0 && len(c.Nodes) > 1 && len(byName) > 0 {
		fmt.Fprintf(w, "\nThe nodes look for each other by name (%s). Where these names do not\n"+
			"resolve, write addresses into `seeds` of each aptmesh.yaml, or name each node with its\n"+
			"address: --nodes %s=ADDRESS,...\n", strings.Join(byName, ", "), c.Nodes[0].Name)
	}
	fmt.Fprint(w, "\nThen `aptmesh status` on any node shows all of them.\n")
}

// printNodeSteps says how a machine becomes a node, for one of them.
func printNodeSteps(w io.Writer, dir string, n pki.NewNode, keysDir string) {
	fmt.Fprintf(w, `  1. Install aptmesh on its machine, here %[1]s. That makes the user aptmesh and the directories
     below. Copy the directory in which aptmesh was built, and run there, as root:
       make install
  2. Write the archives into %[2]s/aptmesh.yaml: the same on all nodes. Without them
     a node serves those of its own machine's apt. Copy its files to the machine:
       scp %[2]s/aptmesh.yaml root@%[4]s:/etc/aptmesh/
       scp %[2]s/*.pem %[2]s/gossip.key root@%[4]s:%[3]s/
  3. On %[1]s, let the service read its keys, and nobody else:
       chown -R aptmesh: %[3]s
  4. Open TCP and UDP 7946 and TCP 3143 to the other nodes, and TCP 3142 to the hosts.
  5. On %[1]s, check it, and start it, now and with the machine:
       aptmesh config check && systemctl enable --now aptmesh
     A node that ran before needs: systemctl restart aptmesh
`, n.Name, filepath.Join(dir, n.Name), keysDir, cmp.Or(n.Address, n.Name))
}

func (a *app) clusterAddCommand() *cobra.Command {
	var dir string
	var seeds []string
	cmd := &cobra.Command{
		Use:   "add NODE[=ADDRESS] --dir DIR",
		Short: "Make the directory of one more node",
		Long: `Issue a certificate for one more node, and make its directory as "aptmesh cluster init"
does. Running nodes need no change: the new node joins through them.`,
		Example: `  aptmesh cluster add lon1 --dir prod`,
		Args:    needing(takes(1, 1, "the name of the node"), "dir"),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := pki.ParseNode(args[0])
			if err != nil {
				return err
			}
			keysDir, err := pki.AddNode(dir, n, seeds)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Made %s/. Next:\n\n", filepath.Join(dir, n.Name))
			printNodeSteps(a.out, dir, n, keysDir)
			return nil
		},
	}
	dirFlag(cmd, &dir)
	seedFlag(cmd, &seeds, "as the nodes there do")
	return cmd
}

func (a *app) clusterRenewCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "renew [NODE...] --dir DIR",
		Short: "Issue new certificates before the old ones expire",
		Long: `Issue new certificates, with new private keys, for the nodes named, or for all. They replace
those in the directories of the nodes. A certificate is valid for two years; status, metrics
and "aptmesh config check" say when it expires.`,
		Example: `  aptmesh cluster renew --dir prod
  aptmesh cluster renew fra1 --dir prod`,
		Args: needing(cobra.ArbitraryArgs, "dir"),
		RunE: func(_ *cobra.Command, args []string) error {
			renewed, err := pki.RenewNodes(dir, args)
			if len(renewed) > 0 {
				fmt.Fprintf(a.out, "New certificates for %s in %s.\n\n"+
					"Copy cert.pem and key.pem of each to %s of its node; a running node takes them up by itself.\n", strings.Join(renewed, ", "), dir, pki.KeysDir)
			}
			return err
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func (a *app) clusterRotateKeyCommand() *cobra.Command {
	var dir string
	steps := []string{pki.RotateAdd, pki.RotateUse, pki.RotateDrop}
	cmd := &cobra.Command{
		Use:   "rotate-key add|use|drop --dir DIR",
		Short: "Replace the gossip key by a new one",
		Long: `Replace the gossip key by a new one, in three steps, while all nodes run:

  add   add the new key, so that nodes can decrypt with it
  use   encrypt with the new key
  drop  remove the old key

After each step, copy gossip.key to every node and reload all nodes (systemctl reload
aptmesh). Begin the next step only then, so that all nodes can always read each other.`,
		Example: `  aptmesh cluster rotate-key add --dir prod`,
		Args: needing(func(cmd *cobra.Command, words []string) error {
			if err := cobra.ExactArgs(1)(cmd, words); err != nil {
				return err
			}
			return cobra.OnlyValidArgs(cmd, words)
		}, "dir"),
		ValidArgs: steps,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := pki.RotateGossipKey(dir, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Changed gossip.key in %s and in the directories of its nodes.\n\n"+
				"Copy it to %s of every node, and reload all of them: systemctl reload aptmesh\n", dir, pki.KeysDir)
			switch args[0] {
			case pki.RotateAdd:
				fmt.Fprintf(a.out, "Then: aptmesh cluster rotate-key use --dir %s\n", dir)
			case pki.RotateUse:
				fmt.Fprintf(a.out, "Then: aptmesh cluster rotate-key drop --dir %s\n", dir)
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}
