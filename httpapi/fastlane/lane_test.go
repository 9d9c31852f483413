package fastlane_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/httpapi/fastlane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plant is a lane and the http.Server behind it. The lane answers "lane NAME BODY", the server "net/http METHOD PATH BODY".
type plant struct {
	lane    *fastlane.Lane
	server  *http.Server
	served  chan struct{}
	taken   atomic.Int64  // requests that the lane has answered
	refuse  atomic.Bool   // the handler takes none
	hold    chan struct{} // where not nil: answers wait for it
	held    chan struct{}
	mu      sync.Mutex
	panics  []any
	explode atomic.Bool
}

func config() fastlane.Config {
	return fastlane.Config{
		Prefix: "/v1/models/", Suffix: "/jobs", MaxBodyBytes: 20_000,
		HeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, WriteTimeout: time.Minute, Header: []string{"X-Fixed: yes"},
	}
}

func (p *plant) Serve(r *fastlane.Request, a *fastlane.Answer) bool {
	if p.refuse.Load() {
		return false
	}
	if p.hold != nil {
		p.held <- struct{}{}
		<-p.hold
	}
	if p.explode.Load() {
		panic("as told")
	}
	p.taken.Add(1)
	a.Begin(http.StatusAccepted)
	a.Set("X-Authorization", string(r.Authorization))
	a.End(time.Now(), fmt.Appendf(nil, "lane %s %s", r.Name, r.Body))
	return true
}

func start(t *testing.T, l net.Listener, cfg fastlane.Config, change func(*plant)) *plant {
	t.Helper()
	p := &plant{served: make(chan struct{})}
	if change != nil {
		change(p)
	}
	cfg.Panicked = func(v any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.panics = append(p.panics, v)
	}
	lane, err := fastlane.New(l, cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	p.lane = lane
	p.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(w, "net/http %s %s %.100s", r.Method, r.URL, body)
	})}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(lane)
	}()
	t.Cleanup(func() {
		_ = p.server.Close()
		_ = lane.Shutdown(context.Background())
		<-p.served
	})
	return p
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// client is one connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

func (p *plant) dial(t *testing.T) *client {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.lane.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{conn, bufio.NewReader(conn)}
}

func (c *client) send(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
	}
}

// answer reads an answer.
func (c *client) answer(t *testing.T) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// expect reads an answer and compares its body.
func (c *client) expect(t *testing.T, want string) *http.Response {
	t.Helper()
	resp, got := c.answer(t)
	if got != want {
		t.Fatalf("%d %q, expected %q", resp.StatusCode, got, want)
	}
	return resp
}

func post(name, body string, headers ...string) string {
	return fmt.Sprintf("POST /v1/models/%s/jobs HTTP/1.1\r\nHost: x.example:80\r\n%sContent-Length: %d\r\n\r\n%s", name, strings.Join(headers, ""), len(body), body)
}

func TestPlainRequestsAreAnsweredHere(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	c := p.dial(t)
	c.send(t, post("digits", "{}"))
	resp := c.expect(t, "lane digits {}")
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("X-Fixed") != "yes" || resp.Close {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(at) > time.Minute {
		t.Errorf("Date: %v %v", at, err)
	}
	for _, header := range []string{
		"User-Agent: curl/8.14\r\n", "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n", "Connection: Keep-Alive\r\n",
		"Content-Type: application/json\r\n", "content-type:Application/JSON; charset=UTF-8\r\n", "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "AUTHORIZATION: \t Bearer a \r\n",
	} {
		c.send(t, post("a.b-c_D9", "[1,\n2]", header))
		resp := c.expect(t, "lane a.b-c_D9 [1,\n2]")
		if want := strings.HasPrefix(header, "AUTH"); (resp.Header.Get("X-Authorization") == "Bearer a") != want {
			t.Errorf("%q: Authorization is %q", header, resp.Header.Get("X-Authorization"))
		}
	}
	if n := p.taken.Load(); n != 8 {
		t.Errorf("the lane has answered %d", n)
	}
}

// What is not plain is net/http's, every byte of it, and so is all that follows on the connection.
func TestTheRestIsHandedOver(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	const ok, bad = http.StatusOK, http.StatusBadRequest
	long := strings.Repeat("a", 30_000)
	for name, c := range map[string]struct {
		request string
		status  int
		answer  string // "": net/http's own
	}{
		"GET":                    {"GET /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\n\r\n", ok, "net/http GET /v1/models/a/jobs "},
		"another path":           {"POST /v1/models/a/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST /v1/models/a/predict {}"},
		"a version":              {post("a/versions/1", "{}"), ok, "net/http POST /v1/models/a/versions/1/jobs {}"},
		"a query":                {"POST /v1/models/a/jobs?lane=bulk HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST /v1/models/a/jobs?lane=bulk {}"},
		"an escaped slash":       {post("a%2Fb", "{}"), ok, "net/http POST /v1/models/a%2Fb/jobs {}"},
		"an escaped letter":      {post("%61", "{}"), ok, "net/http POST /v1/models/%61/jobs {}"},
		"dots":                   {post("..", "{}"), ok, "net/http POST /v1/models/../jobs {}"},
		"no name":                {post("", "{}"), ok, "net/http POST /v1/models//jobs {}"},
		"an absolute URL":        {"POST http://x/v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST http://x/v1/models/a/jobs {}"},
		"a fragment":             {post("a#b", "{}"), ok, "net/http POST /v1/models/a%23b/jobs {}"},
		"HTTP/1.0":               {"POST /v1/models/a/jobs HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST /v1/models/a/jobs {}"},
		"HTTP/1.2":               {"POST /v1/models/a/jobs HTTP/1.2\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST /v1/models/a/jobs {}"},
		"HTTP/2":                 {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ok, "net/http PRI * "},
		"two spaces":             {"POST  /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", bad, ""},
		"lines without CR":       {"POST /v1/models/a/jobs HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}", ok, "net/http POST /v1/models/a/jobs {}"},
		"no Host":                {"POST /v1/models/a/jobs HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", bad, ""},
		"two Hosts":              {post("a", "{}", "Host: y\r\n"), bad, ""},
		"an odd Host":            {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x y\r\nContent-Length: 2\r\n\r\n{}", bad, ""},
		"an empty Host":          {"POST /v1/models/a/jobs HTTP/1.1\r\nHost:\r\nContent-Length: 2\r\n\r\n{}", ok, "net/http POST /v1/models/a/jobs {}"},
		"chunks":                 {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ok, "net/http POST /v1/models/a/jobs {}"},
		"chunks and a length":    {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ok, "net/http POST /v1/models/a/jobs {}"},
		"two lengths":            {post("a", "{}", "Content-Length: 3\r\n"), bad, ""},
		"the same length twice":  {post("a", "{}", "Content-Length: 2\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"a length with a sign":   {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}", bad, ""},
		"a length with a space":  {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2 2\r\n\r\n{}", bad, ""},
		"an endless length":      {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}", bad, ""},
		"no length":              {"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\n\r\n", ok, "net/http POST /v1/models/a/jobs "},
		"length 0":               {post("a", ""), ok, "net/http POST /v1/models/a/jobs "},
		"a large body":           {post("a", long), ok, "net/http POST /v1/models/a/jobs " + long[:100]},
		"a huge head":            {post("a", "{}", "User-Agent: "+long+"\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"a folded line":          {post("a", "{}", "User-Agent: a\r\n b\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"a space before a colon": {post("a", "{}", "Accept : a\r\n"), bad, ""},
		"a NUL":                  {post("a", "{}", "Accept: a\x00\r\n"), bad, ""},
		"a lone CR":              {post("a", "{}", "Accept: a\rb\r\n"), bad, ""},
		"a letter beyond ASCII":  {post("a", "{}", "User-Agent: ä\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"an unknown header":      {post("a", "{}", "X-A: a\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"a header without name":  {post("a", "{}", ": a\r\n"), bad, ""},
		"a line without colon":   {post("a", "{}", "Accept\r\n"), bad, ""},
		"Prefer":                 {post("a", "{}", "Prefer: wait=1\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"Idempotency-Key":        {post("a", "{}", "Idempotency-Key: 1\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"Origin":                 {post("a", "{}", "Origin: http://x\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"Content-Encoding":       {post("a", "{}", "Content-Encoding: gzip\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"another type":           {post("a", "{}", "Content-Type: text/plain\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"another charset":        {post("a", "{}", "Content-Type: application/json; charset=latin1\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"two types":              {post("a", "{}", "Content-Type: application/json\r\n", "Content-Type: application/json\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"two Authorizations":     {post("a", "{}", "Authorization: a\r\n", "Authorization: a\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"Connection: close":      {post("a", "{}", "Connection: close\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"Upgrade":                {post("a", "{}", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), ok, "net/http POST /v1/models/a/jobs {}"},
		"garbage":                {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", bad, ""},
		"an empty line":          {"\r\n" + post("a", "{}"), bad, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial(t)
			go func() { _, _ = io.WriteString(conn, c.request) }()
			resp, body := conn.answer(t)
			if resp.StatusCode != c.status || c.answer != "" && body != c.answer {
				t.Errorf("%d %q, expected %d %q", resp.StatusCode, body, c.status, c.answer)
			}
			if c.status == bad || resp.Close {
				return
			}
			conn.send(t, post("b", "2"))
			conn.expect(t, "net/http POST /v1/models/b/jobs 2")
		})
	}
	if n := p.taken.Load(); n != 0 {
		t.Errorf("the lane has answered %d", n)
	}
}

// Expect: 100-continue is answered before there is a body.
func TestExpectIsHandedOver(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	c := p.dial(t)
	request := post("a", "{}", "Expect: 100-continue\r\n")
	c.send(t, strings.TrimSuffix(request, "{}"))
	if line, err := c.in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = c.in.ReadString('\n')
	c.send(t, "{}")
	c.expect(t, "net/http POST /v1/models/a/jobs {}")
}

// What the handler does not take net/http gets, body and all.
func TestWhatTheHandlerRefusesIsHandedOver(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	c := p.dial(t)
	c.send(t, post("a", "1"))
	c.expect(t, "lane a 1")
	p.refuse.Store(true)
	c.send(t, post("a", "2")+post("a", "3"))
	c.expect(t, "net/http POST /v1/models/a/jobs 2")
	c.expect(t, "net/http POST /v1/models/a/jobs 3")
}

// Requests that come without waiting for answers are answered in order, wherever their bytes are cut.
func TestPipelining(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	stream, want := "", []string{}
	for i := range 40 {
		body := strings.Repeat("x", 1+i*i*9) // some need a larger buffer
		stream += post("m", body)
		want = append(want, "lane m "+body)
	}
	stream += "GET /end HTTP/1.1\r\nHost: x\r\n\r\n"
	want = append(want, "net/http GET /end ")
	c := p.dial(t)
	go func() { _, _ = io.WriteString(c, stream) }()
	for i := range want {
		// A head that is cut is net/http's, with all that follows.
		if resp, got := c.answer(t); got != want[i] && !strings.HasPrefix(got, "net/http POST /v1/models/m/jobs x") {
			t.Fatalf("answer %d: %d %q", i, resp.StatusCode, got)
		}
	}
	if p.taken.Load() == 0 {
		t.Error("the lane has answered none")
	}
}

// In a bubble time stands still, and so nothing is cut but where the test cuts it.
func bubble(t *testing.T, cfg fastlane.Config, change func(*plant), test func(t *testing.T, p *plant, c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		p := start(t, l, cfg, change)
		near, far := net.Pipe()
		l.conns <- far
		t.Cleanup(func() { _ = near.Close() })
		test(t, p, &client{near, bufio.NewReader(near)})
	})
}

// pipes is a listener without a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestSplitBody(t *testing.T) {
	bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
		t.Helper()
		head, long := strings.TrimSuffix(post("a", "{}"), "{}"), strings.Repeat("y", 9000)
		for range 3 {
			c.send(t, head, "{", "}")
			c.expect(t, "lane a {}")
			large := post("b", long)
			c.send(t, large[:200], large[200:5000], large[5000:])
			c.expect(t, "lane b "+long)
		}
		c.send(t, head+"{")
		<-time.After(5 * time.Second) // net/http waits for longer
		c.send(t, "}")
		c.expect(t, "net/http POST /v1/models/a/jobs {}")
	})
}

func TestSplitHead(t *testing.T) {
	request := post("a", "{}")
	for at := 1; at < len(request)-2; at++ {
		bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			c.send(t, request[:at], request[at:])
			if _, got := c.answer(t); got != "net/http POST /v1/models/a/jobs {}" && got != "lane a {}" {
				t.Errorf("cut at %d: %s", at, got)
			}
		})
	}
}

// gone waits until the other side has closed the connection, and returns how long that took.
func (c *client) gone(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if b, err := io.ReadAll(c.in); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	return time.Since(began)
}

func TestTimeouts(t *testing.T) {
	near := func(t *testing.T, took, want time.Duration) {
		t.Helper()
		if took < want || took > want+want/8 {
			t.Errorf("closed after %s, expected %s and an eighth more at most", took, want)
		}
	}
	t.Run("a connection that says nothing", func(t *testing.T) {
		bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			near(t, c.gone(t), 10*time.Second)
		})
	})
	t.Run("between requests", func(t *testing.T) {
		bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			for range 50 {
				c.send(t, post("a", "1"))
				c.expect(t, "lane a 1")
				<-time.After(10 * time.Second)
			}
			near(t, c.gone(t)+10*time.Second, 2*time.Minute)
		})
	})
	t.Run("an idle timeout that is shorter than the headers'", func(t *testing.T) {
		cfg := config()
		cfg.IdleTimeout = time.Second
		bubble(t, cfg, nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			c.send(t, post("a", "1"))
			c.expect(t, "lane a 1")
			near(t, c.gone(t), time.Second)
		})
	})
	t.Run("a client that does not read", func(t *testing.T) {
		bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			began := time.Now()
			c.send(t, post("a", "1"))
			for { // until the other side is not there any more
				if _, err := io.WriteString(c, "x"); err != nil {
					break
				}
			}
			near(t, time.Since(began), time.Minute)
		})
	})
	t.Run("headers that trickle", func(t *testing.T) {
		bubble(t, config(), nil, func(t *testing.T, _ *plant, c *client) {
			t.Helper()
			c.send(t, "POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\n")
			near(t, c.gone(t), 10*time.Second)
		})
	})
}

func TestPanicsEndOneConnection(t *testing.T) {
	p := start(t, listen(t), config(), nil)
	p.explode.Store(true)
	c := p.dial(t)
	c.send(t, post("a", "1"))
	c.gone(t)
	p.explode.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.panics) != 1 || p.panics[0] != "as told" {
		t.Errorf("it was told of %v", p.panics)
	}
	other := p.dial(t)
	other.send(t, post("a", "1"))
	other.expect(t, "lane a 1")
}

// On the way down idle connections are closed, requests in hand are answered, and what comes behind them is not taken.
func TestShutdown(t *testing.T) {
	p := start(t, listen(t), config(), func(p *plant) { p.hold, p.held = make(chan struct{}), make(chan struct{}, 1) })
	idle, busy, fresh := p.dial(t), p.dial(t), p.dial(t)
	busy.send(t, post("a", "0"))
	<-p.held
	go func() { p.hold <- struct{}{} }()
	busy.expect(t, "lane a 0")
	idle.send(t, post("a", "0"))
	<-p.held
	p.hold <- struct{}{}
	idle.expect(t, "lane a 0")
	busy.send(t, post("a", "1")+post("a", "2"))
	<-p.held
	down := make(chan error)
	go func() {
		_ = p.server.Shutdown(t.Context())
		down <- p.lane.Shutdown(t.Context())
	}()
	idle.gone(t)
	fresh.gone(t)
	close(p.hold)
	if resp := busy.expect(t, "lane a 1"); !resp.Close {
		t.Error("the connection was not said to end")
	}
	busy.gone(t)
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.lane.Addr().String()); err == nil {
		t.Error("it still listens")
	}
	if _, err := p.lane.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

// What is not answered when the time is over is cut off.
func TestShutdownInVain(t *testing.T) {
	p := start(t, listen(t), config(), func(p *plant) { p.hold, p.held = make(chan struct{}), make(chan struct{}, 1) })
	c := p.dial(t)
	c.send(t, post("a", "1"))
	<-p.held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.lane.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.gone(t)
	close(p.hold)
}

// A request that comes while the lane closes is answered, or its connection closed: nothing hangs.
func TestShutdownRace(t *testing.T) {
	for range 20 {
		p := start(t, listen(t), config(), nil)
		var clients sync.WaitGroup
		for range 8 {
			c := p.dial(t)
			clients.Go(func() {
				for {
					if _, err := io.WriteString(c, post("a", "1")); err != nil {
						return
					}
					resp, err := http.ReadResponse(c.in, nil)
					if err != nil {
						return
					}
					body, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err != nil || string(body) != "lane a 1" {
						t.Errorf("%q, %v", body, err)
					}
					if resp.Close {
						return
					}
				}
			})
		}
		for p.taken.Load() < 50 {
			c := p.dial(t)
			c.send(t, post("a", "1"))
			c.expect(t, "lane a 1")
		}
		_ = p.server.Shutdown(t.Context())
		if err := p.lane.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		clients.Wait()
	}
}

func TestEveryFaultOfTheSettingsIsNamed(t *testing.T) {
	_, err := fastlane.New(nil, fastlane.Config{}, nil)
	for _, want := range []string{"Prefix", "Suffix", "MaxBodyBytes", "HeaderTimeout", "IdleTimeout", "WriteTimeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
}
