package producer_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/queue/embedded"
)

// A web app in Go submits a job. A real program connects to the NATS that its workers use; here a server runs in the
// process and stands for it, and the announcement that a worker would make is made by hand.
func ExampleProducer_Submit() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	natsURL, stop := exampleServer(ctx)
	defer stop()

	cfg := producer.DefaultConfig()
	cfg.Queue.URL = natsURL
	p, err := producer.Connect(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()

	request := producer.Request{
		Model: "doubler",
		Inputs: []job.Tensor{
			{Name: "x", Datatype: job.Uint8, Shape: []int64{2, 3}, Data: []byte{1, 2, 3, 4, 5, 6}}, // two rows of three
		},
		IdempotencyKey: "order-4711", // the same request under the same key again is the same job
	}
	sub, err := p.Submit(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	again, err := p.Submit(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("accepted:", sub.Ticket)
	fmt.Println("the same job:", again.Ticket == sub.Ticket, again.Duplicate)

	_, err = p.Submit(ctx, producer.Request{
		Model:  "doubler",
		Inputs: []job.Tensor{{Name: "x", Datatype: job.Uint8, Shape: []int64{1, 4}, Data: []byte{1, 2, 3, 4}}},
	})
	fmt.Println("refused:", err)

	request.Inputs = []job.Tensor{{Name: "x", Datatype: job.Uint8, Shape: []int64{1, 3}, Data: []byte{7, 8, 9}}}
	_, err = p.Submit(ctx, request)
	fmt.Println("refused:", err)

	// Output:
	// accepted: 75396407-5226-5f88-8b22-429278362f3a.i1-0-759ce9ef254a6358
	// the same job: true true
	// refused: inputs[0].shape: expected [-1,3], got [1,4]
	// refused: the IdempotencyKey was used before, for another request
}

// exampleServer starts a NATS server and announces the model "doubler".
func exampleServer(ctx context.Context) (url string, stop func()) {
	cfg := embedded.DefaultConfig()
	cfg.StoreDir = exampleDir()
	server, err := embedded.Start(cfg)
	if err != nil {
		log.Fatal(err)
	}
	qcfg := queue.DefaultConfig()
	qcfg.URL = server.ClientURL()
	q, err := queue.Connect(ctx, qcfg)
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	if err := q.EnsureStreams(ctx); err != nil {
		log.Fatal(err)
	}
	info := doubler()
	value, err := info.Encode()
	if err != nil {
		log.Fatal(err)
	}
	if err := q.Announce(ctx, info.Key(), value); err != nil {
		log.Fatal(err)
	}
	return server.ClientURL(), func() { server.Shutdown(); removeDir(cfg.StoreDir) }
}

// doubler is the announcement of a model with one input and one output of three numbers a row.
func doubler() model.Info {
	return model.Info{
		Name: "doubler", Version: "1", Platform: "onnxruntime_onnx", Digest: "0", MaxRows: 64,
		Signature: model.Signature{
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.Uint8, Shape: []int64{-1, 3}}},
			Outputs:   []model.TensorSpec{{Name: "y", Datatype: job.Uint8, Shape: []int64{-1, 3}}},
			Batchable: true,
		},
	}
}
