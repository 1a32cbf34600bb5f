// Threads that wait in Java's own ways; ends when stdin is closed.
import java.util.concurrent.CountDownLatch;

public class Threads {
    public static void main(String[] args) throws Exception {
        CountDownLatch never = new CountDownLatch(1);
        Object monitor = new Object();
        for (int n = 0; n < 3; n++) {
            start("latch-" + n, () -> never.await());
        }
        start("sleeps", () -> Thread.sleep(3_600_000));
        start("monitor", () -> {
            synchronized (monitor) {
                monitor.wait();
            }
        });
        System.out.println("ready");
        System.out.flush();
        while (System.in.read() >= 0) {
        }
        System.exit(0);
    }

    interface Work {
        void run() throws InterruptedException;
    }

    static void start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (InterruptedException ignored) {
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }
}
