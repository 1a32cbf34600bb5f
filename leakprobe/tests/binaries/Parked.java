// A thread that is parked under three methods of its own; ends when stdin is closed.
import java.util.concurrent.locks.LockSupport;

public class Parked {
    static volatile boolean never;
    static int depth;

    public static void main(String[] args) throws Exception {
        // What compiled code refers to is known by then, so that it is not thrown away for that.
        LockSupport.unpark(null);
        Thread thread = new Thread(Parked::outer, "compiled");
        thread.setDaemon(true);
        thread.start();
        System.out.println("ready");
        System.out.flush();
        while (System.in.read() >= 0) {
        }
        System.exit(0);
    }

    static void outer() {
        middle();
        depth++;
    }

    static void middle() {
        inner();
        depth++;
    }

    static void inner() {
        while (!never) {
            LockSupport.park();
        }
        depth++;
    }
}
