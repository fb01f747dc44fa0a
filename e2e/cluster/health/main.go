// health answers /healthz and /readyz as every operator made with controller-runtime does: it is a manager of
// controller-runtime, with nothing in it but the checks that it is told.
//
//	health ADDRESS PATH=NAME[:REASON]...
//
// PATH is healthz or readyz; a check with a reason fails with it. It serves until its standard input ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: health ADDRESS PATH=NAME[:REASON]...")
	}
	log.SetLogger(zap.New())
	// Nobody is there, and nobody is asked: no controller, no cache, no election.
	m, err := manager.New(&rest.Config{Host: "http://127.0.0.1:1"}, manager.Options{
		HealthProbeBindAddress: args[0],
		Metrics:                server.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	for _, arg := range args[1:] {
		path, check, _ := strings.Cut(arg, "=")
		name, reason, fails := strings.Cut(check, ":")
		asked := func(*http.Request) error {
			if fails {
				return errors.New(reason)
			}
			return nil
		}
		add := m.AddReadyzCheck
		switch path {
		case "healthz":
			add = m.AddHealthzCheck
		case "readyz":
		default:
			return fmt.Errorf("%s: neither healthz nor readyz", arg)
		}
		if err := add(name, asked); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return m.Start(ctx)
}
