// SPDX-License-Identifier: MIT
// Log FROM TO: logs these numbers by log4j2.
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

public class Log {
    public static void main(String[] args) {
        Logger log = LogManager.getLogger("app");
        int last = Integer.parseInt(args[1]);
        for (int n = Integer.parseInt(args[0]); n < last; n++) {
            log.info("{}", n);
        }
        LogManager.shutdown();
    }
}
