import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;

/** The cases in Java: CASE leak|fixed|healthy, and load ADDR N [CONCURRENCY], by the same protocol as corpus.h. */
public class Corpus {
    /** What a request does. */
    interface Work {
        void request() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("load")) {
            load(args[1], Integer.parseInt(args[2]), args.length > 3 ? Integer.parseInt(args[3]) : 4);
            return;
        }
        switch (args[0] + " " + args[1]) {
            case "executor-not-shut-down leak" -> serve(Runnable::run, Corpus::leakExecutor);
            case "executor-not-shut-down fixed" -> serve(Runnable::run, Corpus::fixedExecutor);
            case "mail-consumer leak" -> serve(Runnable::run, Corpus::leakConsumer);
            case "mail-consumer fixed" -> serve(Runnable::run, Corpus::fixedConsumer);
            case "fixed-pool healthy" -> serve(Executors.newFixedThreadPool(8), () -> Thread.sleep(2));
            default -> throw new IllegalArgumentException("no such case: " + String.join(" ", args));
        }
    }

    static void leakExecutor() throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(1);
        Future<Integer> sum = executor.submit(() -> 1 + 1); // CREATES: executor-not-shut-down
        sum.get();
    }

    static void fixedExecutor() throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(1);
        try {
            Future<Integer> sum = executor.submit(() -> 1 + 1);
            sum.get();
        } finally {
            executor.shutdown();
        }
    }

    static final String END = "end";

    /** Writes what comes until the end. */
    static void consume(BlockingQueue<String> mails) {
        try {
            while (!mails.take().equals(END)) { // PARKS: mail-consumer
                Thread.yield();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    static BlockingQueue<String> startConsumer() {
        BlockingQueue<String> mails = new LinkedBlockingQueue<>();
        new Thread(() -> consume(mails), "mail-writer").start(); // CREATES: mail-consumer
        return mails;
    }

    /** Nobody sends the end. */
    static void leakConsumer() throws Exception {
        startConsumer().put("hello");
    }

    static void fixedConsumer() throws Exception {
        BlockingQueue<String> mails = startConsumer();
        mails.put("hello");
        mails.put(END);
    }

    /** Gives each connection to the executor, for as long as the client keeps it open. */
    static void serve(Executor executor, Work work) throws IOException {
        ServerSocket server = new ServerSocket(0, 64, InetAddress.getLoopbackAddress());
        // None outlives its test for long: whoever is not asked any more ends.
        server.setSoTimeout(900_000);
        System.out.println("listening on 127.0.0.1:" + server.getLocalPort());
        while (true) {
            Socket client = server.accept();
            executor.execute(() -> answer(client, work));
        }
    }

    static void answer(Socket client, Work work) {
        try (client) {
            BufferedReader lines = reader(client);
            while (lines.readLine() != null) {
                work.request();
                client.getOutputStream().write("ok\n".getBytes(StandardCharsets.US_ASCII));
            }
        } catch (Exception e) {
            e.printStackTrace();
            System.exit(9);
        }
    }

    static void load(String address, int requests, int connections) throws Exception {
        String[] parts = address.split(":");
        List<Thread> clients = new ArrayList<>();
        for (int i = 0; i < connections; i++) {
            int share = requests / connections + (i < requests % connections ? 1 : 0);
            Thread client = new Thread(() -> ask(parts[0], Integer.parseInt(parts[1]), share));
            client.start();
            clients.add(client);
        }
        for (Thread client : clients) {
            client.join();
        }
        System.out.println(requests + " requests");
    }

    static void ask(String host, int port, int requests) {
        try (Socket server = new Socket(host, port)) {
            BufferedReader lines = reader(server);
            for (int i = 0; i < requests; i++) {
                server.getOutputStream().write("GET\n".getBytes(StandardCharsets.US_ASCII));
                if (!"ok".equals(lines.readLine())) {
                    throw new IOException("a request failed");
                }
            }
        } catch (IOException e) {
            e.printStackTrace();
            System.exit(1);
        }
    }

    static BufferedReader reader(Socket socket) throws IOException {
        return new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
    }
}
