import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.locks.LockSupport;

/** A pool of its own, whose threads have the names of those that run virtual threads; and a virtual thread, if asked to and able to. */
public class Virtual {
    public static void main(String[] args) throws Exception {
        new ForkJoinPool(1).submit(() -> {}).get();
        String made = "no virtual threads";
        if (args.length > 0) {
            try {
                Runnable parked = LockSupport::park;
                Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, parked);
                made = "virtual threads";
            } catch (ReflectiveOperationException older) {
                // Before Java 21.
            }
        }
        System.out.println("ready " + made);
        Thread.sleep(Long.MAX_VALUE);
    }
}
