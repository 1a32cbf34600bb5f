import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;

/** A thread for each way in which Java waits, named by what it is to be called. */
class Waits {
    interface Step {
        void run() throws Exception;
    }

    static void start(String name, Step step) {
        new Thread(() -> {
            try {
                step.run();
            } catch (Exception e) {
                throw new RuntimeException(e);
            }
        }, name).start();
    }

    static void take(Object own, Object other, CountDownLatch both) throws Exception {
        synchronized (own) {
            both.countDown();
            both.await();
            synchronized (other) {
                System.out.println("impossible");
            }
        }
    }

    public static void main(String[] args) throws Exception {
        Object left = new Object(), right = new Object(), mail = new Object();
        CountDownLatch both = new CountDownLatch(2);
        start("enter", () -> take(left, right, both));
        start("enter", () -> take(right, left, both));
        start("wait", () -> {
            synchronized (mail) {
                mail.wait();
            }
        });
        start("park", () -> LockSupport.park(mail));
        start("sleep", () -> Thread.sleep(3_600_000));
        // Until all have come to where they wait.
        Thread[] threads = new Thread[Thread.activeCount() + 8];
        int count = Thread.enumerate(threads);
        for (int n = 0; n < count; n++) {
            Thread thread = threads[n];
            while (thread != Thread.currentThread() && !thread.getState().name().matches("BLOCKED|.*WAITING")) {
                Thread.sleep(10);
            }
        }
        System.out.println("ready");
        System.in.read();
        System.exit(0);
    }
}
