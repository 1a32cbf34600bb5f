package main

// database/sql, with a database that always has one more row.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/http"
	"sync"
)

func init() {
	mistake("rows-not-closed", leakRows, fixedRows)
	sql.Register("endless", endless{})
}

type endless struct{}

func (endless) Open(string) (driver.Conn, error)           { return endless{}, nil }
func (endless) Prepare(string) (driver.Stmt, error)        { return endless{}, nil }
func (endless) Begin() (driver.Tx, error)                  { return nil, driver.ErrSkip }
func (endless) NumInput() int                              { return -1 }
func (endless) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }
func (endless) Query([]driver.Value) (driver.Rows, error)  { return endless{}, nil }
func (endless) Columns() []string                          { return []string{"id"} }
func (endless) Close() error                               { return nil }
func (endless) Next(row []driver.Value) error              { row[0] = int64(1); return nil }

var database = sync.OnceValue(func() *sql.DB {
	database, err := sql.Open("endless", "")
	must(err)
	return database
})

func first(rows *sql.Rows) (id int64) {
	if rows.Next() {
		rows.Scan(&id)
	}
	return id
}

// With a context that ends, but not with the request.
func leakRows(w http.ResponseWriter, r *http.Request) {
	rows, err := database().QueryContext(serving, "SELECT id FROM orders")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	first(rows)
}

func fixedRows(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(serving)
	defer cancel()
	rows, err := database().QueryContext(ctx, "SELECT id FROM orders")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer rows.Close()
	first(rows)
}
