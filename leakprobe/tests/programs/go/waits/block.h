// What `waits` calls in C.
void block(int depth);
void call_go(void);
void start_thread(void);
