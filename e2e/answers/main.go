package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"
)

var (
	out      = flag.String("out", "", "write the page to this file instead of standard output")
	patience = flag.Duration("patience", 25*time.Second, "a run that has asked for nothing for so long hangs")
	parallel = flag.Int("parallel", 8, "so many trials at a time; most of them wait")
	only     = flag.String("only", "", "try only versions whose release or version begins so")
)

// statuses are all that a cache could give, and those that apt takes for transient.
var statuses = []int{400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 416, 421, 422, 425, 429, 451, 500, 501, 502, 503, 504, 508}

var transient = []int{408, 429, 500, 502, 503, 504}

// The phrases beside the usual ones. apt reads 359 bytes of one.
var (
	shortPhrase = "the Release of ubuntu/noble is not trusted"
	longPhrase  = strings.TrimSpace(strings.Repeat("the Release of ubuntu/noble is not trusted, ", 12))
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "aptmesh-answers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	apts, missing, err := versions(ctx, dir)
	if err != nil {
		return err
	}
	for _, a := range apts {
		o, err := trial{apt: a, place: placeNowhere}.run(ctx, newArchive(), *patience)
		if err != nil || o.hung || o.exit != 0 {
			return fmt.Errorf("control: apt %s where nothing fails: %v, %w", a.version, o, err)
		}
	}
	results, err := runAll(ctx, trials(apts))
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := write(&page, results, apts, missing); err != nil {
		return err
	}
	if *out == "" {
		_, err = os.Stdout.Write(page.Bytes())
		return err
	}
	return os.WriteFile(*out, page.Bytes(), 0o644)
}

// versions are all that can be run here, and a sentence for each that cannot.
func versions(ctx context.Context, dir string) (apts []apt, missing []string, err error) {
	local, err := localApt(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := codename()
	for _, release := range releases {
		a := local
		if a.from = release; release != own {
			if a, err = fetchApt(ctx, dir, release); err != nil {
				log.Print(err)
				missing = append(missing, err.Error())
				continue
			}
		}
		if strings.HasPrefix(a.version, *only) || strings.HasPrefix(a.from, *only) {
			apts = append(apts, a)
		}
	}
	if len(apts) == 0 {
		return []apt{local}, missing, nil // a machine of another distribution
	}
	return apts, missing, ctx.Err()
}

// codename is that of this machine, "" where it does not say.
func codename() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return ""
}

// trials are all of them: every status everywhere; other retries, Retry-After and phrases
// where they could matter.
func trials(apts []apt) (all []trial) {
	for _, a := range apts {
		for _, p := range places {
			add := func(said answer, proxied bool, retries int) { all = append(all, trial{a, p, said, proxied, retries}) }
			for _, status := range statuses {
				add(answer{status: status}, false, 3)
				add(answer{status: status}, true, 3)
			}
			for _, status := range append([]int{403, 404}, transient...) {
				add(answer{status: status}, false, 0)
				add(answer{status: status, retryAfter: 2}, false, 3)
			}
			for _, status := range []int{403, 503} {
				add(answer{status: status, phrase: shortPhrase}, false, 3)
				add(answer{status: status, phrase: longPhrase}, false, 3)
			}
		}
	}
	return all
}

// runAll makes the trials and returns their results in the same order.
func runAll(ctx context.Context, all []trial) ([]result, error) {
	archive := newArchive()
	results, failures := make([]result, len(all)), make([]error, len(all))
	slots := make(chan struct{}, *parallel)
	var group sync.WaitGroup
	for i, t := range all {
		slots <- struct{}{}
		if i%100 == 0 {
			log.Printf("trial %d of %d", i, len(all))
		}
		group.Go(func() {
			defer func() { <-slots }()
			o, err := t.run(ctx, archive, *patience)
			results[i] = result{t, o}
			if err != nil {
				failures[i] = fmt.Errorf("apt %s, %s, %s: %w", t.apt.version, t.place, t.said.name(), err)
			}
		})
	}
	group.Wait()
	return results, errors.Join(failures...)
}
