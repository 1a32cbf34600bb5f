package main

// gorm, pgx and go-redis.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"gorm.io/gorm"
	"gorm.io/gorm/utils/tests"
)

func init() {
	mistake("gorm-open", func() { openOrders() }, fixedOpen)
	mistake("gorm-rows", func() { firstOrder(ctx) }, fixedRows)
	mistake("pgx-pool", func() { newPgx() }, func() { newPgx().Close() })
	mistake("redis-subscription", func() { subscribe() }, func() { subscribe().Close() })
	mistake("redis-client", leakRedis, fixedRedis)
	healthy("redis-shared", func() { ping(sharedRedis()) })
	healthy("gorm-shared", func() { sharedOrders().Exec("SELECT 1") })
	sql.Register("orders", orders{})
}

// A database whose only table never ends.
type orders struct{}

func (orders) Open(string) (driver.Conn, error)           { return orders{}, nil }
func (orders) Prepare(string) (driver.Stmt, error)        { return orders{}, nil }
func (orders) Begin() (driver.Tx, error)                  { return nil, driver.ErrSkip }
func (orders) NumInput() int                              { return -1 }
func (orders) Exec([]driver.Value) (driver.Result, error) { return driver.RowsAffected(1), nil }
func (orders) Query([]driver.Value) (driver.Rows, error)  { return orders{}, nil }
func (orders) Columns() []string                          { return []string{"id"} }
func (orders) Close() error                               { return nil }
func (orders) Next(row []driver.Value) error              { row[0] = int64(1); return nil }

// A pool of connections for each request, as in a function that "gets the database".
func openOrders() *gorm.DB {
	pool := value(sql.Open("orders", ""))
	return value(gorm.Open(tests.DummyDialector{}, &gorm.Config{ConnPool: pool}))
}

func fixedOpen() {
	pool := value(openOrders().DB())
	pool.Close()
}

var sharedOrders = sync.OnceValue(openOrders)

// Rows that are not read to the end and not closed, in a context that can end and does not.
func firstOrder(parent context.Context) *sql.Rows {
	ctx, cancel := context.WithCancel(parent)
	kept = append(kept, cancel)
	rows := value(sharedOrders().WithContext(ctx).Raw("SELECT id FROM orders").Rows())
	rows.Next()
	return rows
}

var kept []func()

func fixedRows() { firstOrder(ctx).Close() }

func newPgx() *pgxpool.Pool {
	return value(pgxpool.New(ctx, "postgres://someone@"+pgxAddress()+"/orders?sslmode=disable"))
}

var pgxAddress = sync.OnceValue(silentAddress)

var redisServer = sync.OnceValue(func() *miniredis.Miniredis { return value(miniredis.Run()) })

func newRedis() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: redisServer().Addr()})
}

var sharedRedis = sync.OnceValue(newRedis)

// A subscription whose reader leaves after the first message.
func subscribe() io.Closer {
	subscription := sharedRedis().Subscribe(ctx, "orders")
	value(subscription.Receive(ctx))
	messages := subscription.Channel()
	redisServer().Publish("orders", "one")
	<-messages
	return subscription
}

// A client for each request: its idle connections stay open, so that the server keeps a goroutine for each.
func ping(client *redis.Client) { must(client.Ping(ctx).Err()) }

func leakRedis() {
	client := newRedis()
	clients = append(clients, client)
	ping(client)
}

var clients []*redis.Client

func fixedRedis() {
	client := newRedis()
	defer client.Close()
	ping(client)
}
