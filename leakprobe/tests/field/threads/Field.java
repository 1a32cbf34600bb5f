import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** NAME: a server that does the work of one case once a request; `monitors` prints `ready`. */
public class Field {
    interface Work {
        void request() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Thread end = new Thread(Field::end, "end");
        end.setDaemon(true);
        end.start();
        switch (args[0]) {
            case "compiled-leak" -> serve(Field::leakCompiled);
            case "compensated" -> serve(() -> ForkJoinPool.commonPool().execute(Field::awaitReply));
            case "virtual-threads" -> serve(Field::startVirtual);
            case "fixed-pool" -> serveByPool();
            case "started-pool" -> {
                started.prestartAllCoreThreads();
                serve(Field::useStarted);
            }
            case "monitors" -> monitors();
            default -> throw new IllegalArgumentException("no such case: " + args[0]);
        }
    }

    /** None outlives its test for long, whatever becomes of that. */
    static void end() {
        try {
            Thread.sleep(900_000);
        } catch (InterruptedException e) {
            return;
        }
        Runtime.getRuntime().halt(9);
    }

    static Object await(BlockingQueue<Object> queue) throws InterruptedException {
        return queue.take();
    }

    static Object handle(BlockingQueue<Object> queue) throws InterruptedException {
        return await(queue);
    }

    static void handleForever() {
        try {
            handle(new LinkedBlockingQueue<>());
        } catch (InterruptedException e) {
            return;
        }
    }

    /** Four threads in take() of a queue that stays empty; the same methods are used 1,700 times rightly: HotSpot compiles them. */
    static void leakCompiled() throws Exception {
        BlockingQueue<Object> full = new LinkedBlockingQueue<>();
        for (int i = 0; i < 1700; i++) {
            full.put(full);
            handle(full);
        }
        LockSupport.parkNanos(300_000_000); // as long as HotSpot may take
        for (int i = 0; i < 4; i++) {
            new Thread(Field::handleForever, "leak").start();
        }
    }

    static final CountDownLatch reply = new CountDownLatch(1);

    /** Blocks a thread of the common pool, as CompletableFuture.get does: the pool compensates with one more. */
    static void awaitReply() {
        try {
            ForkJoinPool.managedBlock(new ForkJoinPool.ManagedBlocker() {
                public boolean block() throws InterruptedException {
                    reply.await();
                    return true;
                }

                public boolean isReleasable() {
                    return reply.getCount() == 0;
                }
            });
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    static final List<Object> kept = new ArrayList<>();

    static void awaitLatch() {
        try {
            reply.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Since JDK 21; by reflection, since any JDK is to compile this. */
    static void startVirtual() throws Exception {
        kept.add(Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, (Runnable) Field::awaitLatch));
    }

    /** A fixed pool begins a thread for each task until there are 64. */
    static void serveByPool() throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 64);
        server.createContext("/", Field::answer);
        server.setExecutor(Executors.newFixedThreadPool(64));
        server.start();
        System.out.println("listening on 127.0.0.1:" + server.getAddress().getPort());
    }

    static void answer(HttpExchange exchange) throws IOException {
        exchange.sendResponseHeaders(200, 2);
        exchange.getResponseBody().write("ok".getBytes());
        exchange.close();
    }

    static int compute(int x) {
        int sum = 0;
        for (int i = 0; i < 2000; i++) {
            sum += i * x ^ sum;
        }
        return sum;
    }

    static final ThreadPoolExecutor started =
            new ThreadPoolExecutor(32, 32, 1, TimeUnit.HOURS, new LinkedBlockingQueue<>());

    /** A pool of 32 threads, all begun before the first job; each request brings a hundred jobs. */
    static void useStarted() {
        for (int i = 0; i < 100; i++) {
            int job = i;
            started.execute(() -> compute(job));
            LockSupport.parkNanos(200_000);
        }
    }

    static final Object accounts = new Object(), ledger = new Object(), mail = new Object();

    static void transfer() {
        synchronized (accounts) {
            pause();
            book();
        }
    }

    static void book() {
        synchronized (ledger) {
            pause();
        }
    }

    static void audit() {
        synchronized (ledger) {
            pause();
            read();
        }
    }

    static void read() {
        synchronized (accounts) {
            pause();
        }
    }

    static void awaitMail() {
        synchronized (mail) {
            try {
                mail.wait();
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    static void pause() {
        LockSupport.parkNanos(300_000_000);
    }

    /** Two monitors in opposite orders, Object.wait without notify, LockSupport.park, and CountDownLatch.await. */
    static void monitors() throws Exception {
        new Thread(Field::transfer, "transfer").start();
        new Thread(Field::audit, "audit").start();
        new Thread(Field::awaitMail, "mail").start();
        new Thread(() -> LockSupport.park(mail), "parker").start();
        new Thread(Field::awaitLatch, "latch").start();
        Thread.sleep(2000);
        System.out.println("ready");
        Thread.currentThread().join();
    }

    /** On the main thread alone. */
    static void serve(Work work) throws Exception {
        ServerSocket server = new ServerSocket(0, 64, InetAddress.getLoopbackAddress());
        System.out.println("listening on 127.0.0.1:" + server.getLocalPort());
        while (true) {
            try (Socket client = server.accept()) {
                client.getInputStream().read(new byte[1024]);
                work.request();
                client.getOutputStream().write("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".getBytes());
            }
        }
    }
}
