/**
 * Robots that only play work, for demos and soak tests (`robot-fleet simulate`). A label marks them, and who carries it
 * is given only jobs that mean such robots: those that name the label, or the robot itself. Work that is
 * real never ends as "completed" on a robot that did nothing.
 */

/** Its value is `true`. */
export const simulatedLabel = 'simulated';
/** With the value `any` a simulated robot is given whatever a real one would be. */
export const simulatedTakesLabel = 'simulated.takes';

/** Said by a service that keeps to this; a simulated robot stays away from any other. */
export const simulatedFeature = 'simulated-robots';
