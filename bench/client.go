package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// client is a connection to a lab, as a web app has it.
type client struct {
	registry *prometheus.Registry
	queue    *queue.Queue
	producer *producer.Producer
	models   *model.Catalog
	store    resultstore.Store
	stop     context.CancelFunc
}

// clientSettings are the defaults for a lab.
func clientSettings(l *lab) producer.Config {
	cfg := producer.DefaultConfig()
	cfg.Queue.URL, cfg.Queue.Name = l.natsURL(), "bench"
	return cfg
}

// openClient connects to the lab, and waits until the worker has announced the model.
func openClient(ctx context.Context, l *lab, cfg producer.Config, name string) (*client, error) {
	c, err := dial(ctx, cfg, l.redisURL(dbSheaf), name)
	if errors.Is(err, errPatience) {
		return nil, l.worker.failure(err.Error())
	}
	return c, err
}

// dial connects, and waits until a worker has announced the model.
func dial(ctx context.Context, cfg producer.Config, redisURL, name string) (*client, error) {
	c := &client{registry: prometheus.NewRegistry(), models: model.NewCatalog(), stop: func() {}}
	if err := c.connect(ctx, cfg, redisURL); err != nil {
		c.close()
		return nil, err
	}
	err := poll(ctx, 20*time.Millisecond, startPatience, func() (bool, error) {
		_, ok := c.models.Get(name, "")
		return ok, nil
	})
	if err != nil {
		c.close()
		return nil, fmt.Errorf("the model %s was not announced: %w", name, err)
	}
	return c, nil
}

func (c *client) connect(ctx context.Context, cfg producer.Config, redisURL string) (err error) {
	if c.queue, err = queue.Connect(ctx, cfg.Queue, queue.WithRegisterer(c.registry)); err != nil {
		return err
	}
	if err = c.queue.EnsureStreams(ctx); err != nil {
		return err
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	if c.producer, err = producer.New(c.queue, c.models, cfg); err != nil {
		return err
	}
	if err = producer.Watch(watch, c.queue, c.models, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	c.store, err = openStore(ctx, redisURL)
	return err
}

func (c *client) close() {
	c.stop()
	if c.store != nil {
		_ = c.store.Close()
	}
	if c.producer != nil {
		_ = c.producer.Close()
	}
	if c.queue != nil {
		_ = c.queue.Close()
	}
}
