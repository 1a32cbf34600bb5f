import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.netty.channel.nio.NioEventLoopGroup;
import java.lang.reflect.Proxy;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.eclipse.jetty.client.HttpClient;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.util.thread.QueuedThreadPool;

/** NAME leak|fixed|healthy: a server that uses a library wrongly or rightly, once a request. */
public class Libraries {
    interface Work {
        void request() throws Exception;
    }

    static final List<Object> kept = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        Thread end = new Thread(Libraries::end, "end");
        end.setDaemon(true);
        end.start();
        switch (args[0] + " " + args[1]) {
            case "hikari-pool leak" -> serve(() -> kept.add(pool()));
            case "hikari-pool fixed" -> serve(() -> pool().close());
            case "hikari-shared healthy" -> {
                HikariDataSource shared = pool();
                serve(() -> shared.getConnection().close());
            }
            case "netty-group leak" -> serve(() -> kept.add(group()));
            case "netty-group fixed" ->
                serve(() -> group().shutdownGracefully(0, 1, TimeUnit.SECONDS).syncUninterruptibly());
            case "kafka-producer leak" -> serve(() -> kept.add(producer()));
            case "kafka-producer fixed" -> serve(() -> producer().close());
            case "jetty-client leak" -> serve(() -> kept.add(client()));
            case "jetty-client fixed" -> serve(() -> client().stop());
            case "timer leak" -> serve(() -> kept.add(timer(500)));
            case "timer fixed" -> serve(() -> timer(500).cancel());
            case "timer-far leak" -> serve(() -> kept.add(timer(3_600_000)));
            case "timer-far fixed" -> serve(() -> timer(3_600_000).cancel());
            case "okhttp-shared healthy" -> {
                Server backend = jetty();
                OkHttpClient shared = new OkHttpClient();
                serve(() -> fetch(shared, backend.getURI().toString()));
            }
            case "jetty-server healthy" -> System.out.println("listening on 127.0.0.1:" + jetty().getURI().getPort());
            default -> throw new IllegalArgumentException("no such case: " + String.join(" ", args));
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

    /** A database whose connections do nothing. */
    static Object nothing(Class<?> type) {
        if (type == boolean.class) {
            return true;
        }
        return type.isPrimitive() && type != void.class ? 0 : null;
    }

    static <T> T stub(Class<T> type) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, args) ->
                method.getName().equals("getConnection") ? stub(Connection.class) : nothing(method.getReturnType())));
    }

    /** A pool of connections for each request, as in a method that "gets the database". */
    static HikariDataSource pool() {
        HikariConfig config = new HikariConfig();
        config.setDataSource(stub(DataSource.class));
        config.setMaximumPoolSize(2);
        return new HikariDataSource(config);
    }

    /** An event loop group for each client. */
    static NioEventLoopGroup group() {
        NioEventLoopGroup group = new NioEventLoopGroup(2);
        group.submit(() -> 1).syncUninterruptibly();
        return group;
    }

    /** A producer for each message; nothing listens there. */
    static KafkaProducer<String, String> producer() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", "127.0.0.1:1");
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    static HttpClient client() throws Exception {
        HttpClient client = new HttpClient();
        client.setExecutor(new QueuedThreadPool(4, 4));
        client.start();
        return client;
    }

    static Timer timer(long everyMs) {
        Timer timer = new Timer();
        timer.schedule(new TimerTask() {
            @Override
            public void run() {}
        }, everyMs, everyMs);
        return timer;
    }

    static void fetch(OkHttpClient client, String url) throws Exception {
        try (Response response = client.newCall(new Request.Builder().url(url).build()).execute()) {
            response.body().string();
        }
    }

    static Server jetty() throws Exception {
        Server server = new Server(new java.net.InetSocketAddress("127.0.0.1", 0));
        server.setHandler(new AbstractHandler() {
            @Override
            public void handle(String target, org.eclipse.jetty.server.Request base,
                    jakarta.servlet.http.HttpServletRequest request, jakarta.servlet.http.HttpServletResponse response)
                    throws java.io.IOException {
                response.getWriter().write("ok");
                base.setHandled(true);
            }
        });
        server.start();
        return server;
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
